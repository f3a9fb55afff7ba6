package proxy

import (
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/proto"

	"github.com/exeat-dev/exeat/policy"
)

// FuzzCheckRequest feeds the translation whatever bytes make a CheckRequest.
// It never panics; what it takes has one meaning; and an answer that allows
// lets nothing through that no list names.
func FuzzCheckRequest(f *testing.F) {
	for _, row := range denials() {
		if row.req != nil {
			f.Add(marshal(f, row.req))
		}
	}
	f.Add(marshal(f, get("authorization: a", "authorization: b", "cookie: c", "x-odd: \xff\xfe")))
	f.Add([]byte{})
	cat := catalog(f)
	view := task(held(f, cat, grantID, "read-ticket"), held(f, cat, "g_01JAAAAAAAAAAAAAAAAAAAAAAC", "file-ticket"))
	f.Fuzz(func(t *testing.T, data []byte) {
		req := &authv3.CheckRequest{}
		if proto.Unmarshal(data, req) != nil {
			return
		}
		now := epoch.Add(time.Minute)
		r, err := translate(req, now)
		if r.raw.At.After(now) || now.Sub(r.raw.At) > maxLag {
			t.Fatalf("the call is from %v", r.raw.At)
		}
		if err != nil {
			return
		}
		oneMeaning(t, req, r)
		w := &world{cat: cat, now: now, views: map[policy.TaskID]*policy.TaskView{taskID: view}}
		resp, err := w.server(t, sidecarOne).Check(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		if ok := resp.GetOkResponse(); ok != nil {
			nothingElsePasses(t, req, ok, view.Held[0].Resolved.Destination)
		}
	})
}

func marshal(f *testing.F, req *authv3.CheckRequest) []byte {
	b, err := proto.Marshal(req)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// oneMeaning: no singleton twice, no override, no line break, nothing that a
// body could hide in.
func oneMeaning(t *testing.T, req *authv3.CheckRequest, r request) {
	h := req.GetAttributes().GetRequest().GetHttp()
	seen := map[string]int{}
	for _, v := range h.GetHeaderMap().GetHeaders() {
		name, value := v.GetKey(), field{raw: v.GetRawValue(), text: v.GetValue()}.value()
		if policy.OverrideHeader(name) || strings.ContainsAny(name+value, "\r\n\x00") || name != strings.ToLower(name) {
			t.Fatalf("header %q: %q was taken", name, value)
		}
		if seen[name]++; seen[name] > 1 && headers[name].single != 0 {
			t.Fatalf("%q was taken twice", name)
		}
		if name == "content-length" && strings.Trim(value, "0") != "" && !r.raw.HasBody {
			t.Fatalf("length %q is no body", value)
		}
	}
	if (len(h.GetRawBody()) > 0 || h.GetBody() != "" || h.GetSize() > 0) && !r.raw.HasBody {
		t.Fatal("a body was seen and is none")
	}
}

// nothingElsePasses: every header of the request is in the fixed set, listed by
// the destination, or removed or overwritten by the answer.
func nothingElsePasses(t *testing.T, req *authv3.CheckRequest, ok *authv3.OkHttpResponse, d *policy.Destination) {
	gone := map[string]bool{}
	for _, name := range ok.GetHeadersToRemove() {
		gone[name] = true
	}
	limit := ""
	for _, o := range ok.GetHeaders() {
		if o.GetAppendAction() == corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD {
			gone[o.GetHeader().GetKey()] = true
		}
		if o.GetHeader().GetKey() == headerTimeout {
			limit = o.GetHeader().GetValue()
		}
	}
	if !wellFormed.MatchString(limit) {
		t.Fatalf("the time limit is %q", limit)
	}
	h := req.GetAttributes().GetRequest().GetHttp()
	for _, v := range h.GetHeaderMap().GetHeaders() {
		if name := v.GetKey(); name[0] != ':' && !gone[name] && !headers[name].pass && !d.Allows(name) {
			t.Fatalf("%q passes", name)
		}
	}
}

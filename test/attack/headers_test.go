package attack

import (
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/test/stack"
)

// way is one kind of HTTP on the agent's side, to one kind on the upstream's.
type way struct {
	name   string
	mirror *stack.Mirror
	// send sends the granted GET with further headers on a connection of its own.
	send func(t *testing.T, headers ...stack.Field) stack.Reply
}

// ways are all four.
func (s *scene) ways() []way {
	var out []way
	for _, m := range []*stack.Mirror{s.mirror, s.other} {
		to := map[*stack.Mirror]string{s.mirror: "HTTP/1.1", s.other: "HTTP/2"}[m]
		out = append(out,
			way{"HTTP/1.1 to " + to, m, func(t *testing.T, headers ...stack.Field) stack.Reply {
				return stack.Exchange(s.task.Secure(t, m.Host, m.Host, "http/1.1"), http.MethodGet, get(m.Host, granted, headers...))
			}},
			way{"HTTP/2 to " + to, m, func(t *testing.T, headers ...stack.Field) stack.Reply {
				return stack.NewH2(t, s.task.Secure(t, m.Host, m.Host, "h2")).Do(stack.Message{
					Headers: stack.Request(http.MethodGet, "https", m.Host, granted, lower(headers)...),
				})
			}})
	}
	return out
}

// get is a request in HTTP/1.1.
func get(host, target string, headers ...stack.Field) string {
	b := "GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n"
	for _, h := range headers {
		b += h.Name + ": " + h.Value + "\r\n"
	}
	return b + "\r\n"
}

func lower(headers []stack.Field) []stack.Field {
	var out []stack.Field
	for _, h := range headers {
		out = append(out, stack.Field{Name: strings.ToLower(h.Name), Value: h.Value})
	}
	return out
}

// forgeries are headers that say who calls, what about, or how Envoy is to do
// it. Each value holds the word forged, unless it has to have another form.
var forgeries = []stack.Field{
	{Name: "Authorization", Value: "Bearer forged"}, {Name: "Authorization", Value: "Basic forged"}, {Name: "AUTHORIZATION", Value: "forged"},
	{Name: "Cookie", Value: "session=forged"}, {Name: "Cookie", Value: "more=forged"},
	{Name: "Proxy-Authorization", Value: "Basic forged"},
	{Name: "X-Envoy-Upstream-Rq-Timeout-Ms", Value: "1"}, {Name: "X-Envoy-Upstream-Rq-Per-Try-Timeout-Ms", Value: "1"},
	{Name: "X-Envoy-Retry-On", Value: "5xx,gateway-error"}, {Name: "X-Envoy-Max-Retries", Value: "9"}, {Name: "X-Envoy-Retry-Grpc-On", Value: "internal"},
	{Name: "X-Envoy-Hedge-On-Per-Try-Timeout", Value: "true"}, {Name: "X-Envoy-Original-Path", Value: "/forged"}, {Name: "X-Envoy-Original-Host", Value: "forged"},
	{Name: "X-Envoy-Original-Dst-Host", Value: "127.0.0.1:1"}, {Name: "X-Envoy-Decorator-Operation", Value: "forged"}, {Name: "X-Envoy-Internal", Value: "true"},
	{Name: "X-Envoy-Expected-Rq-Timeout-Ms", Value: "1"}, {Name: "X-Envoy-Ip-Tags", Value: "forged"}, {Name: "X-Envoy-External-Address", Value: "127.0.0.1"},
	{Name: "X-Envoy-Downstream-Service-Cluster", Value: "forged"}, {Name: "X-Envoy-Downstream-Service-Node", Value: "forged"}, {Name: "X-Envoy-Force-Trace", Value: "true"},
	{Name: "X-Envoy-Peer-Metadata", Value: "forged"}, {Name: "X-Envoy-Attempt-Count", Value: "9"}, {Name: "X-Envoy-Auth-Partial-Body", Value: "false"},
	{Name: "X-Forwarded-For", Value: "127.0.0.1, forged"}, {Name: "X-Forwarded-Host", Value: "forged"}, {Name: "X-Forwarded-Proto", Value: "http"},
	{Name: "X-Forwarded-Port", Value: "1"}, {Name: "X-Forwarded-Prefix", Value: "/forged"}, {Name: "X-Forwarded-Client-Cert", Value: "URI=spiffe://forged"},
	{Name: "X-Forwarded-User", Value: "forged"}, {Name: "X-Forwarded", Value: "forged"}, {Name: "Forwarded", Value: "for=127.0.0.1;host=forged"},
	{Name: "X-Real-Ip", Value: "127.0.0.1"}, {Name: "X-Client-Ip", Value: "127.0.0.1"}, {Name: "True-Client-Ip", Value: "127.0.0.1"}, {Name: "Via", Value: "1.1 forged"},
	{Name: "Grpc-Timeout", Value: "99999999H"}, {Name: "X-Request-Id", Value: "forged"},
	{Name: "Exeat-Task", Value: "t_forged"}, {Name: "Exeat-Task-Credential", Value: "forged"}, {Name: "Exeat-Decision", Value: "d_forged"},
	{Name: "Exeat-Agent", Value: "forged"}, {Name: "Exeat-Allowed", Value: "true"},
	{Name: "Te", Value: "trailers"}, {Name: "X-Amz-Security-Token", Value: "forged"}, {Name: "X-Api-Key", Value: "forged"}, {Name: "Referer", Value: "https://forged/"},
	{Name: "Origin", Value: "https://forged"}, {Name: "Baggage", Value: "user=forged"}, {Name: "X-Item-Version-2", Value: "forged"}, {Name: "X.Item.Version", Value: "forged"},
}

// The agent puts on its call what it was not given, or what proxies believe. The
// defence: what is not known to be harmless is removed before the upstream, and
// the one Authorization there is the grant's own. What is let through arrives, so
// it was not that nothing does.
func TestTheAgentForgesHeaders(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	s.grant(t, "read-other")
	for i, w := range s.ways() {
		t.Run(w.name, func(t *testing.T) {
			before, raw := len(w.mirror.Seen()), len(w.mirror.Bytes())
			headers := append([]stack.Field{
				{Name: "X-Item-Version", Value: "7"}, {Name: "Accept", Value: "text/plain"},
				{Name: "Exeat-Call", Value: fmt.Sprintf("forged-%d", i)}, // the same one would be a replay
			}, forgeries...)
			stack.WantOK(t, w.send(t, headers...))
			seen := w.mirror.Seen()[before:]
			if len(seen) != 1 {
				t.Fatalf("%d requests reached the upstream, want 1", len(seen))
			}
			wantHeaders(t, seen[0], "Accept", "Authorization", "Te", "X-Item-Version")
			if w.mirror == s.mirror && strings.Contains(string(w.mirror.Bytes()[raw:]), "forged") {
				t.Error("the upstream was sent a forged value")
			}
			if seen[0].Host != w.mirror.Host {
				t.Errorf("the upstream was called %s", seen[0].Host)
			}
		})
	}
	wantNotRecorded(t, s, `"forged"`) // as a request's ID, for instance
}

// wantHeaders wants these names, the grant's own credential once, and nothing of
// a forgery.
func wantHeaders(t *testing.T, seen stack.Arrival, want ...string) {
	t.Helper()
	if names := slices.Sorted(maps.Keys(seen.Header)); !slices.Equal(names, want) {
		t.Errorf("the upstream saw headers %v, want %v", names, want)
	}
	if a := seen.Header["Authorization"]; len(a) != 1 || !strings.HasPrefix(a[0], "Bearer ey") || strings.ContainsAny(a[0], ", ;") && strings.Count(a[0], " ") > 1 {
		t.Errorf("the upstream saw %d Authorization headers", len(a))
	}
	if te := seen.Header["Te"]; len(te) > 1 || len(te) == 1 && te[0] != "trailers" {
		t.Errorf("the upstream saw TE: %v", te)
	}
	for name, values := range seen.Header {
		if strings.Contains(fmt.Sprint(values), "forged") {
			t.Errorf("the upstream saw %s: %s", name, values)
		}
	}
	if seen.Target != granted {
		t.Errorf("the upstream saw %s", seen.Target)
	}
}

// wantNotRecorded looks for text in the audit log.
func wantNotRecorded(t *testing.T, s *scene, text string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.Data, "audit", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no audit log: %v", err)
	}
	for _, name := range files {
		if b, err := os.ReadFile(name); err != nil || strings.Contains(string(b), text) {
			t.Errorf("%s holds %s, or cannot be read: %v", name, text, err)
		}
	}
}

// Headers that one reader takes for one thing and another for another. The
// defence: the call is refused; each in its own way, and none arrives.
func TestTheAgentSendsAmbiguousHeaders(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	malformed := refused{http.StatusBadRequest, "malformed_call"}
	envoy := refused{http.StatusBadRequest, ""}

	for _, q := range []struct {
		header stack.Field
		one    refused // over HTTP/1.1
		two    refused // over HTTP/2
	}{
		{stack.Field{Name: "X-Http-Method-Override", Value: "DELETE"}, malformed, malformed},
		{stack.Field{Name: "X-Http-Method", Value: "DELETE"}, malformed, malformed},
		{stack.Field{Name: "X-Method-Override", Value: "DELETE"}, malformed, malformed},
		{stack.Field{Name: "X-Original-Url", Value: "/v1/items/OPS-43"}, malformed, malformed},
		{stack.Field{Name: "X-Original-Uri", Value: "/v1/items/OPS-43"}, malformed, malformed},
		{stack.Field{Name: "X-Rewrite-Url", Value: "/v1/items/OPS-43"}, malformed, malformed},
		{stack.Field{Name: "X_Rewrite_Url", Value: "/v1/items/OPS-43"}, envoy, refused{}},
		{stack.Field{Name: "X_Http_Method_Override", Value: "DELETE"}, envoy, refused{}},
		{stack.Field{Name: "X_Item_Version", Value: "7"}, envoy, refused{}},
		{stack.Field{Name: "X_Forwarded_For", Value: "127.0.0.1"}, envoy, refused{}},
		{stack.Field{Name: "Content-Length", Value: "+0"}, envoy, refused{}},
		{stack.Field{Name: "Exeat-Grant", Value: "g_x"}, malformed, malformed},
		{stack.Field{Name: "Exeat-Grant", Value: "'; --"}, malformed, malformed},
		{stack.Field{Name: "X Item", Value: "7"}, envoy, refused{}},
		{stack.Field{Name: "X-Item\x00", Value: "7"}, envoy, refused{}},
		{stack.Field{Name: "X-Item-Version", Value: "7\x00"}, envoy, refused{}},
	} {
		t.Run(strings.ReplaceAll(q.header.Name+" "+q.header.Value, "/", "_"), func(t *testing.T) {
			for _, w := range s.ways()[:2] {
				want := q.one
				if strings.HasPrefix(w.name, "HTTP/2") {
					want = q.two
				}
				s.onlyControl(t, func() { want.check(t, w.send(t, q.header)) })
			}
		})
	}
	// In HTTP/1.1 alone, or in HTTP/2 alone.
	line := "GET " + granted + " HTTP/1.1\r\n"
	host := "Host: " + mirrorHost + "\r\n"
	for name, q := range map[string]struct {
		request string
		want    refused
	}{
		"two hosts":                        {line + host + "Host: " + otherHost + "\r\n\r\n", malformed},
		"the same host twice":              {line + host + host + "\r\n", malformed},
		"no host":                          {line + "\r\n", envoy},
		"an empty host":                    {line + "Host:\r\n\r\n", malformed},
		"a blank before the colon":         {line + host + "X-Item-Version : 7\r\n\r\n", envoy},
		"a line that is no header":         {line + host + "forged\r\n\r\n", envoy},
		"two grants":                       {line + host + "Exeat-Grant: g_01ARZ3NDEKTSV4RRFFQ69G5FAV\r\nExeat-Grant: g_01ARZ3NDEKTSV4RRFFQ69G5FAV\r\n\r\n", malformed},
		"a header that begins the message": {line + " " + host + "\r\n", envoy},
	} {
		t.Run(name, func(t *testing.T) {
			s.onlyControl(t, func() {
				q.want.check(t, stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, q.request))
			})
		})
	}
	s.ambiguousInHTTP2(t)
}

// ambiguousInHTTP2 sends what its frames can say and HTTP/1.1 cannot.
func (s *scene) ambiguousInHTTP2(t *testing.T) {
	t.Helper()
	base := stack.Request(http.MethodGet, "https", mirrorHost, granted)
	for name, headers := range map[string][]stack.Field{
		"a name in upper case":       append(slices.Clip(base), stack.Field{Name: "Authorization", Value: "forged"}),
		"a connection header":        append(slices.Clip(base), stack.Field{Name: "connection", Value: "authorization"}),
		"a transfer encoding":        append(slices.Clip(base), stack.Field{Name: "transfer-encoding", Value: "chunked"}),
		"two paths":                  append(slices.Clip(base), stack.Field{Name: ":path", Value: "/v1/items/OPS-43"}),
		"two authorities":            append(slices.Clip(base), stack.Field{Name: ":authority", Value: otherHost}),
		"two methods":                append(slices.Clip(base), stack.Field{Name: ":method", Value: "DELETE"}),
		"a pseudo-header of its own": append(slices.Clip(base), stack.Field{Name: ":forged", Value: "x"}),
		"a line break in a value":    append(slices.Clip(base), stack.Field{Name: "x-item-version", Value: "7\r\nauthorization: forged"}),
		"a line break in a path":     stack.Request(http.MethodGet, "https", mirrorHost, granted+" HTTP/1.1\r\nx: y"),
		"a method that is none":      stack.Request("GET / HTTP/1.1\r\nx: ", "https", mirrorHost, granted),
		"no path":                    base[:3],
	} {
		t.Run("HTTP/2, "+name, func(t *testing.T) {
			s.onlyControl(t, func() {
				r := stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{Headers: headers})
				if r.Err == nil && r.Status < 400 {
					t.Errorf("answered %d %s", r.Status, r.Body)
				}
			})
		})
	}
}

// Headers that some take for two, or for another's. The call goes, because Envoy
// reads them in one way alone. The defence: what the upstream is sent can be read
// in that way alone too, and holds nothing but what was decided on.
func TestTheAgentSendsHeadersThatOnlyEnvoyReadsRightly(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	line := "GET " + granted + " HTTP/1.1\r\nHost: " + mirrorHost + "\r\n"
	for name, q := range map[string]struct {
		request string
		version []string // as it arrives
	}{
		"a bare line feed":       {line + "X-Item-Version: 7\nAuthorization: forged\r\n\r\n", []string{"7"}},
		"a folded header":        {line + "X-Item-Version: 7\r\n Authorization: x\r\n\r\n", []string{"7 Authorization: x"}},
		"a bare carriage return": {line + "X-Item-Version: 7\rAuthorization: x\r\n\r\n", []string{"7Authorization: x"}},
		"an encoding to come":    {line + "X-Item-Version: 7\r\nTE: gzip;q=1\r\n\r\n", []string{"7"}},
		"a value twice":          {line + "X-Item-Version: 7\r\nX-Item-Version: 8\r\n\r\n", []string{"7", "8"}},
	} {
		t.Run(name, func(t *testing.T) {
			before, raw := len(s.mirror.Seen()), len(s.mirror.Bytes())
			stack.WantOK(t, stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, q.request))
			seen := s.mirror.Seen()[before:]
			if len(seen) != 1 || !slices.Equal(seen[0].Header["X-Item-Version"], q.version) {
				t.Fatalf("the upstream saw %+v, want the version %q", seen, q.version)
			}
			wantHeaders(t, seen[0], "Authorization", "X-Item-Version")
			wire := string(s.mirror.Bytes()[raw:])
			for _, rest := range strings.Split(strings.TrimSuffix(wire, "\r\n"), "\r\n") {
				if strings.ContainsAny(rest, "\r\n\x00") {
					t.Errorf("the upstream was sent %q", rest)
				}
			}
		})
	}
	t.Run("another host beside the authority", func(t *testing.T) {
		before := len(s.mirror.Seen())
		stack.WantOK(t, stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{
			Headers: stack.Request(http.MethodGet, "https", mirrorHost, granted, stack.Field{Name: "host", Value: otherHost}),
		}))
		if seen := s.mirror.Seen()[before:]; len(seen) != 1 || seen[0].Host != mirrorHost {
			t.Errorf("the upstream saw %+v", seen)
		}
	})
}

// Headers that Connection lists are for the next hop to drop. The agent lists
// the credential, and what the destination asked for. The defence: the
// credential is put on after that was done, and goes on.
func TestTheAgentListsTheCredentialInConnection(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	for _, value := range []string{"authorization", "close, authorization", "keep-alive, Authorization, x-item-version", "te, authorization", "host", "content-length, transfer-encoding"} {
		t.Run(value, func(t *testing.T) {
			before, raw := len(s.mirror.Seen()), len(s.mirror.Bytes())
			r := stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet,
				get(mirrorHost, granted, stack.Field{Name: "Connection", Value: value}, stack.Field{Name: "Authorization", Value: "Bearer forged"}))
			seen := s.mirror.Seen()[before:]
			if value == "host" { // Envoy takes that away as well, and then there is none
				refused{http.StatusBadRequest, ""}.check(t, r)
				if len(s.mirror.Bytes()) != raw {
					t.Error("and yet the upstream was sent something")
				}
				return
			}
			stack.WantOK(t, r)
			if len(seen) != 1 || len(seen[0].Header["Authorization"]) != 1 || strings.Contains(seen[0].Header.Get("Authorization"), "forged") || len(seen[0].Header["Connection"]) != 0 {
				t.Errorf("the upstream saw %+v", seen)
			}
		})
	}
}

// Trailers come after the decision. The defence: none leave.
func TestTheAgentSendsTrailers(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "write-item")
	s.grant(t, "read-other")
	for _, m := range []*stack.Mirror{s.mirror, s.other} {
		before := len(m.Seen())
		stack.WantOK(t, stack.Exchange(s.task.Secure(t, m.Host, m.Host, "http/1.1"), http.MethodPost,
			"POST "+granted+" HTTP/1.1\r\nHost: "+m.Host+"\r\nTransfer-Encoding: chunked\r\nTrailer: Authorization, X-Item-Version\r\n\r\n"+
				"4\r\nbody\r\n0\r\nAuthorization: Bearer forged\r\nX-Item-Version: forged\r\n\r\n"))
		stack.WantOK(t, stack.NewH2(t, s.task.Secure(t, m.Host, m.Host, "h2")).Do(stack.Message{
			Headers: stack.Request(http.MethodPost, "https", m.Host, granted), Body: []byte("body"),
			Trailer: []stack.Field{{Name: "authorization", Value: "Bearer forged"}, {Name: "x-item-version", Value: "forged"}},
		}))
		seen := m.Seen()[before:]
		if len(seen) != 2 {
			t.Fatalf("%d requests reached %s, want 2", len(seen), m.Host)
		}
		for _, r := range seen {
			trailer := fmt.Sprint(r.Trailer)
			if string(r.Body) != "body" || strings.Contains(trailer, "forged") || strings.Contains(fmt.Sprint(r.Header), "forged") {
				t.Errorf("%s saw the body %q, the trailer %s", m.Host, r.Body, trailer)
			}
		}
	}
	if strings.Contains(string(s.mirror.Bytes()), "forged") {
		t.Error("a trailer reached the upstream")
	}
}

// The agent sets the time limit that Envoy takes from grpc-timeout: a value that
// Envoy reads as no limit would let a stream outlive its grant. The defence: the
// decision overwrites it by what is left. exeatd stands still meanwhile, so that
// no other part of it could be what ends the streams.
func TestTheAgentSetsItsOwnTimeLimit(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	limits := []string{"", "100000000m", "-5m", "1.5S", "10", "99999999S", "99999999H", "0x10S", "1S ", "S", "m", "18446744073709551616n", "\"1S\"", "+1S", "1S\n99999999H", "100000000m\n100000000m"}
	s.task.Grant(t, "follow-item", 8*time.Second, "item", "OPS-42")
	for _, limit := range limits {
		for _, protocol := range []string{"http/1.1", "h2"} {
			s.follow(t, protocol, limit)
		}
	}
	want := 2 * len(limits)
	s.mirror.Await(t, "all streams", func(seen []stack.Arrival) bool { return len(seen) == want })
	defer stack.Freeze(t, s.PID())()
	s.mirror.Await(t, "the end of all streams", func(seen []stack.Arrival) bool {
		return !slices.ContainsFunc(seen, func(a stack.Arrival) bool { return !a.Ended })
	})
}

// A shorter limit of the agent's own is honoured: the stream ends long before
// its grant, and so does nothing else of the grant.
func TestTheAgentsOwnShorterTimeLimitIsHonoured(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "follow-item")
	s.follow(t, "h2", "")
	s.follow(t, "h2", "400m")
	s.follow(t, "http/1.1", "1S")
	seen := s.mirror.Await(t, "the end of the short streams", func(seen []stack.Arrival) bool { return len(seen) == 3 && seen[1].Ended && seen[2].Ended })
	if seen[0].Ended {
		t.Error("the stream without a limit of its own ended as well")
	}
}

// follow begins a stream with a time limit, or several lines of it, and returns
// once it is at the upstream.
func (s *scene) follow(t *testing.T, protocol, limit string) {
	t.Helper()
	here := len(s.mirror.Seen())
	var headers []stack.Field
	for one := range strings.SplitSeq(limit, "\n") {
		headers = append(headers, stack.Field{Name: "Grpc-Timeout", Value: one})
	}
	conn := s.task.Secure(t, mirrorHost, mirrorHost, protocol)
	if protocol == "h2" {
		h2 := stack.NewH2(t, conn)
		go h2.Do(stack.Message{Headers: stack.Request(http.MethodGet, "https", mirrorHost, follow, lower(headers)...)})
	} else if _, err := fmt.Fprint(conn, get(mirrorHost, follow, headers...)); err != nil {
		t.Fatal(err)
	}
	s.mirror.Await(t, fmt.Sprintf("the stream with the limit %q", limit), func(seen []stack.Arrival) bool { return len(seen) > here })
}

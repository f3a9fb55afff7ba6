package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestSecretIsNeverShown(t *testing.T) {
	t.Parallel()
	type inside struct {
		Open   Secret
		closed Secret
		List   []Secret
		Map    map[string]Secret
	}
	const text = "hunter2"
	s := NewSecret(text)
	v := inside{s, s, []Secret{s}, map[string]Secret{"a": s}}
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "secret", s, "inside", v)
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "secret", s, "inside", v)
	out := log.String() + fmt.Sprint(s, v, &v, v.closed)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		out += fmt.Sprintf(verb+verb+verb, s, v, &v)
	}
	if b, err := json.Marshal(v); err == nil {
		t.Errorf("marshalled as %s", b)
	}
	if json.Unmarshal([]byte(`"x"`), &s) == nil {
		t.Error("unmarshalled")
	}
	if strings.Contains(out, text) || strings.Contains(out, fmt.Sprintf("%x", text)) {
		t.Errorf("shown: %s", out)
	}
	if s.Expose() != text || s.IsZero() || !(Secret{}).IsZero() || (Secret{}).Expose() != "" || !NewSecret("").IsZero() || s.String() != "[secret]" {
		t.Error("the text is lost, or there is one where is none")
	}
}

func TestProxyAuthorizationIsBasic(t *testing.T) {
	t.Parallel()
	task := Task{ID: "t_1", Credential: NewSecret("pass")}
	if got := task.ProxyAuthorization(); got != "Basic dF8xOnBhc3M=" {
		t.Errorf("%q", got)
	}
	if RoomName(task.ID) != "room/t_1" {
		t.Error(RoomName(task.ID))
	}
}

func TestScopesOfAGrant(t *testing.T) {
	t.Parallel()
	got := ScopesOf(Grant{Agent: "a", Capability: "c", Task: "t", Owner: []string{"o", "p"}})
	want := []Scope{{ScopeAll, ""}, {ScopeAgent, "a"}, {ScopeCapability, "c"}, {ScopeTask, "t"}, {ScopeOwner, "o"}, {ScopeOwner, "p"}}
	if !slices.Equal(got, want) {
		t.Errorf("%v", got)
	}
}

func TestFloorOnlyRises(t *testing.T) {
	t.Parallel()
	var f Floor
	for _, step := range []struct{ to, want int64 }{{5, 5}, {3, 5}, {5, 5}, {9, 9}, {0, 9}} {
		if f.Raise(step.to); f.Revision() != step.want {
			t.Errorf("at %d after %d", f.Revision(), step.to)
		}
	}
}

func TestHeadersThatPass(t *testing.T) {
	t.Parallel()
	d := &Destination{Headers: []string{"x-ticket-version", "x-trace-*"}}
	for name, want := range map[string]bool{
		"x-ticket-version": true, "X-Ticket-Version": true, "x-trace-": true, "X-Trace-Id": true,
		"x-ticket-versions": false, "x-trac": false, "x-other": false, "": false, "x_trace_id": false,
	} {
		if d.Allows(name) != want {
			t.Errorf("%q passes: %v", name, !want)
		}
	}
	careless := &Destination{Headers: []string{"*", "x-*", "authorization"}} // cannot be compiled; denied all the same
	for _, name := range []string{"authorization", "Cookie", "Proxy-Authorization", "exeat-grant", "X-Envoy-Retry-On", "x-forwarded-for",
		"X_Forwarded_For", "x-http-method-override", "X_HTTP_METHOD", "host", ":path", "te", "grpc-timeout", "x-original-url"} {
		if careless.Allows(name) || !ForbiddenHeader(name) || (*Destination)(nil).Allows(name) {
			t.Errorf("%s passes", name)
		}
	}
	if !OverrideHeader("X-HTTP-Method_Override") || OverrideHeader("x-method") || OverrideHeader("") {
		t.Error("override headers are told apart wrongly")
	}
}

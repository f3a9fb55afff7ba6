package policy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
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

func TestAFloorSaysWhyItRose(t *testing.T) {
	t.Parallel()
	f, other := new(Floor), new(Floor)
	h := &Held{MadeAt: 4, Floors: []*Floor{other, f}}
	if _, ok := h.RaisedBy(); ok {
		t.Error("a floor that never rose ended something")
	}
	f.RaiseFor(Cause{Revision: 5, Reason: EndAgentSuspended, By: "one", At: t0})
	f.RaiseFor(Cause{Revision: 3, Reason: EndRevoked, By: "late"})
	if c := f.Cause(); c.Reason != EndAgentSuspended || c.By != "one" || c.Revision != 5 {
		t.Errorf("%+v", c)
	}
	other.RaiseFor(Cause{Revision: 9, Reason: EndRevoked, By: "two"})
	if c, ok := h.RaisedBy(); !ok || c.By != "one" {
		t.Errorf("the first that ended it: %+v", c)
	}
	f.Raise(12) // without a cause, or by a record that cannot be read
	if c := f.Cause(); c.Reason != EndRevoked || c.Revision != 12 || c.By != "" {
		t.Errorf("%+v", c)
	}
	other.RaiseFor(Cause{Revision: 20, Reason: "because"})
	if c := other.Cause(); c.Reason != EndRevoked {
		t.Errorf("%+v", c)
	}
}

func TestWhatWasOpenAndUnderAScope(t *testing.T) {
	t.Parallel()
	g := Grant{Task: t1, Agent: "triage", Capability: "read", Owner: []string{"a", "b"}, Life: Life{State: Active, Activated: t0, Until: t0.Add(time.Hour)}}
	h := &Held{Grant: g, MadeAt: 4, Floors: []*Floor{new(Floor)}}
	for _, s := range append(ScopesOf(g), Scope{ScopeAgent, "x"}, Scope{ScopeOwner, "c"}, Scope{ScopeCapability, ""}, Scope{ScopeTask, "t_x"}, Scope{ScopeParent, "g_x"}, Scope{}) {
		if got := h.Under(s); got != slices.Contains(ScopesOf(g), s) {
			t.Errorf("under %v: %v", s, got)
		}
	}
	if !h.Open(t0) || h.Open(t0.Add(time.Hour)) {
		t.Error("an active grant is open until its end")
	}
	h.Floors[0].RaiseFor(Cause{Revision: 5, Reason: EndRevoked, At: t0.Add(time.Minute)})
	if !h.Open(t0.Add(time.Minute)) || h.Open(t0.Add(time.Minute+1)) {
		t.Error("a floor closes it when it rises")
	}
	h.Grant.Life, _ = Transition(g.Life, End(EndCompleted), t0.Add(time.Minute))
	if !h.Open(t0.Add(time.Minute)) || h.Open(t0.Add(time.Minute+1)) {
		t.Error("its end closes it")
	}
	if (&Held{Grant: Grant{Life: Begin(t0, t0.Add(time.Hour))}}).Open(t0) {
		t.Error("a request is open")
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

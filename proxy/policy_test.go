package proxy

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// under puts the world under a catalog with an exeat.call package.
func (w *world) under(t testing.TB, source string) {
	t.Helper()
	set := catalogSet()
	set.Policies = []v1alpha1.PolicyModule{{Path: "policies/call.rego", Source: "package exeat.call\n\n" + source}}
	cat, problems := policy.Compile(set)
	for _, p := range problems {
		t.Fatal(p)
	}
	w.cat = cat
	h := held(t, cat, grantID, "read-ticket")
	h.Ground = new(policy.Ground)
	w.views[taskID] = task(h)
}

// touching makes durable at once what is asked for, as the store does.
type touching struct {
	w    *world
	err  error
	made []policy.Touch
	on   func()
}

func (f *touching) Touch(_ context.Context, id policy.TaskID, t policy.Touch) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	if f.on != nil {
		f.on()
	}
	v := *f.w.views[id]
	made := !v.Touched(t)
	if made {
		v.Touches = append(append([]policy.Touch(nil), v.Touches...), t)
		f.made = append(f.made, t)
	}
	f.w.views[id] = &v
	return made, nil
}

type sent uint64

func (n sent) Tally(policy.TaskID) audit.Tally { return audit.Tally{Sent: uint64(n)} }

// ask gives the reason of the last decision and the body of a denial.
func ask(t *testing.T, w *world, s *Server, req *authv3.CheckRequest) (policy.Reason, string) {
	t.Helper()
	resp, err := s.Check(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return w.decisions[len(w.decisions)-1].Reason, resp.GetDeniedResponse().GetBody()
}

func TestPolicyDecidesOnCalls(t *testing.T) {
	t.Parallel()
	const readOnly = "allow if input.call.method == \"GET\"\n"
	for name, tc := range map[string]struct {
		source string
		reason policy.Reason
		rule   string
	}{
		"allowed":            {readOnly, policy.Allowed, ""},
		"denied with a word": {readOnly + "deny contains \"not this one\" if input.grant.params.ticket == \"OPS-42\"", policy.PolicyDenied, "exeat.call.deny"},
		"not allowed":        {"allow if input.call.method == \"HEAD\"", policy.PolicyDenied, "exeat.call.allow"},
		"nothing allowed":    {"default allow := false", policy.PolicyDenied, "exeat.call.allow"},
		"a conflict":         {"allow := true if input.call.method == \"GET\"\nallow := false if input.call.port == 443", policy.PolicyDenied, "exeat.call.allow (policies/call.rego:4)"},
		"by the time":        {"allow if time.clock(input.time)[0] == 5", policy.Allowed, ""},
		"by the owner":       {"allow if \"support\" in input.owner.groups", policy.Allowed, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.under(t, tc.source)
			s := w.server(t, sidecarOne)
			reason, body := ask(t, w, s, get())
			if reason != tc.reason || tc.rule != w.decisions[len(w.decisions)-1].Policy {
				t.Errorf("%s by %q", reason, w.decisions[len(w.decisions)-1].Policy)
			}
			if tc.rule != "" && !strings.Contains(body, `"rule":"`+tc.rule+`"`) {
				t.Errorf("body %s", body)
			}
		})
	}
}

// A policy only ever takes away: what the rules do not cover, it cannot allow.
func TestPolicyCannotWiden(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under(t, "allow := true")
	if reason, _ := ask(t, w, w.server(t, sidecarOne), checkRequest("DELETE", "https", "tickets.example.org", "/v1/tickets/OPS-42")); reason != policy.CallNotGranted {
		t.Errorf("got %s", reason)
	}
}

const history = `
default allow := true
deny contains "tickets were read already" if "tickets" in input.history.destinations
`

func TestWhatATaskReachesIsDurableFirst(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under(t, history)
	s := w.server(t, sidecarOne)
	touches := &touching{w: w}
	s.touches = touches
	if reason, body := ask(t, w, s, get()); reason != policy.Allowed {
		t.Fatalf("the first call: its own touch is not before it: %s %s", reason, body)
	}
	want := policy.Touch{Destination: "tickets", Sensitivity: v1alpha1.SensitivityInternal}
	if len(touches.made) != 1 || touches.made[0] != want {
		t.Errorf("made %+v", touches.made)
	}
	if reason, _ := ask(t, w, s, get()); reason != policy.PolicyDenied {
		t.Errorf("the second call: %s", reason)
	}
	if len(touches.made) != 1 {
		t.Errorf("made again: %+v", touches.made)
	}
}

func TestATouchThatFailsDenies(t *testing.T) {
	t.Parallel()
	for name, touches := range map[string]Touches{"no store": nil, "a store that fails": &touching{err: errors.New("full")}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.under(t, history)
			s := w.server(t, sidecarOne)
			s.touches = touches
			if reason, _ := ask(t, w, s, get()); reason != policy.StateStale {
				t.Errorf("got %s", reason)
			}
		})
	}
}

// What another replica lets the task reach while this call's own touch is
// being made counts: the call is judged again.
func TestWhatComesBetweenIsSeen(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under(t, "default allow := true\ndeny contains \"after restricted data nothing leaves\" if input.history.highestSensitivity == \"restricted\"")
	s := w.server(t, sidecarOne)
	s.touches = &touching{w: w, on: func() {
		v := *w.views[taskID]
		v.Touches = []policy.Touch{{Destination: "vault", Sensitivity: v1alpha1.SensitivityRestricted}}
		w.views[taskID] = &v
	}}
	if reason, _ := ask(t, w, s, get()); reason != policy.PolicyDenied {
		t.Errorf("got %s", reason)
	}
}

func TestNoPolicyMakesNoTouch(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t, sidecarOne)
	touches := &touching{w: w}
	s.touches = touches
	if reason, _ := ask(t, w, s, get()); reason != policy.Allowed || len(touches.made) > 0 {
		t.Errorf("%s, made %+v", reason, touches.made)
	}
}

// The last look asks again when the policies or the history changed while the
// decision was being written.
func TestTheLastLookAsksAgain(t *testing.T) {
	t.Parallel()
	const plain = "default allow := true\ndeny contains \"closed\" if \"vault\" in input.history.destinations"
	for name, change := range map[string]func(t *testing.T, w *world){
		"other policies": func(t *testing.T, w *world) { w.under(t, "default allow := false") },
		"a touch": func(_ *testing.T, w *world) {
			v := *w.views[taskID]
			v.Touches = append(v.Touches, policy.Touch{Destination: "vault"})
			w.views[taskID] = &v
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.under(t, plain)
			s := w.server(t, sidecarOne)
			s.touches = &touching{w: w}
			once := true
			w.onRecord = func(d audit.Decision) error {
				if once && d.Reason == policy.Allowed {
					once = false
					change(t, w)
				}
				return nil
			}
			if reason, _ := ask(t, w, s, get()); reason != policy.PolicyDenied {
				t.Errorf("got %s", reason)
			}
		})
	}
}

func TestBytesOutReachThePolicy(t *testing.T) {
	t.Parallel()
	for n, want := range map[sent]policy.Reason{10: policy.Allowed, 2000: policy.PolicyDenied} {
		w := newWorld(t)
		w.under(t, "default allow := true\ndeny contains \"enough\" if input.history.bytesOut > 1000")
		s := w.server(t, sidecarOne)
		s.touches, s.tallies = &touching{w: w}, n
		if reason, _ := ask(t, w, s, get()); reason != want {
			t.Errorf("after %d bytes: %s", n, reason)
		}
	}
}

// A policy that never ends is ended, and the call with it.
func TestABombInAPolicyDenies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under(t, "allow if count([1 | some i in numbers.range(1, 5000); some j in numbers.range(1, 5000); i * j == input.call.port]) == 0")
	began := time.Now()
	if reason, _ := ask(t, w, w.server(t, sidecarOne), get()); reason != policy.PolicyDenied {
		t.Errorf("got %s", reason)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

// Without an exeat.call package a check pays nothing for policies.
func TestNoPolicyCostsNothing(t *testing.T) {
	w := newWorld(t)
	s := w.server(t, sidecarOne)
	agent, _ := w.cat.Agent("triage")
	c := &check{catalog: w.cat, agent: agent, view: w.views[taskID], now: w.now, decision: policy.Decision{Reason: policy.Allowed, Held: w.one()}}
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		s.consult(ctx, c, &c.decision, c.view)
		if c.untouched() != nil || !c.decision.Allowed() || !s.stillConsents(ctx, c, c.view, c.decision.Held) {
			t.Error("a policy had a say")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

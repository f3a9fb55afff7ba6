package grant_test

import (
	"errors"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// everyScope is each wide scope that triage's read-ticket grants are under, and
// how its grants end.
var everyScope = map[string]policy.Scope{
	"everything":   {Kind: policy.ScopeAll},
	"an agent":     {Kind: policy.ScopeAgent, Name: "triage"},
	"an owner":     {Kind: policy.ScopeOwner, Name: "support"},
	"a capability": {Kind: policy.ScopeCapability, Name: "read-ticket"},
}

func (w *world) revoke(scope policy.Scope) grant.Revocation {
	w.t.Helper()
	r, err := w.RevokeScope(w.ctx, operator, scope, long)
	w.must(err)
	return r
}

func TestARevocationOfAScopeEndsWhatIsInIt(t *testing.T) {
	t.Parallel()
	for name, scope := range everyScope {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cars.connect(triage1, false)
			w.cars.connect(triage2, false)
			w.cars.connect(writer, false)
			task, c := w.task(triage1, 0)
			elsewhere, ec := w.task(triage2, 0)
			first, second, third := w.granted(c, task, 0), w.granted(c, task, 0), w.granted(ec, elsewhere, 0)
			other, oc := w.task(writer, 0)
			st, err := w.Request(w.ctx, oc, grant.Request{Task: other.ID, Capability: "browse"}, long)
			w.must(err)

			r := w.revoke(scope)
			grants, instances := 3, 2
			if scope.Kind == policy.ScopeAll {
				grants, instances = 4, 3
			}
			if r.Grants != grants || r.Instances != instances || r.Ending.Enforced.IsZero() || r.Ending.Enforced.Before(r.Ending.Accepted) {
				t.Fatalf("got %+v", r)
			}
			for _, g := range []policy.Grant{first, second, third} {
				if st, err := w.Get(w.ctx, operator, g.ID, 0); err != nil || st.Ready || st.Grant.End != policy.EndRevoked || !st.Grant.EndedAt.Equal(r.Ending.Accepted) {
					t.Errorf("got %+v, %v; accepted %v", st, err, r.Ending.Accepted)
				}
			}
			if now, err := w.Get(w.ctx, oc, st.Grant.ID, 0); err != nil || now.Ready == (scope.Kind == policy.ScopeAll) {
				t.Errorf("the other agent's: %+v, %v", now, err)
			}
			w.granted(c, task, 0) // the task stays, and what is asked for now is decided anew
			w.swept(r, first, second, third)
			if n := len(w.lines(`"scope":"` + scope.String() + `"`)); n != 1 {
				t.Errorf("%d records of the revocation", n)
			}
		})
	}
}

// swept waits for the sweeper to give each grant an end of its own, which says
// who revoked it and when.
func (w *world) swept(r grant.Revocation, list ...policy.Grant) {
	w.t.Helper()
	for _, g := range list {
		w.until(g.Task, func(v *policy.TaskView) bool { return find(v, g.ID).Grant.State == policy.Ended })
		own := find(w.store.Index().Task(g.Task), g.ID).Grant
		if own.End != policy.EndRevoked || !own.EndedAt.Equal(r.Ending.Accepted) {
			w.t.Errorf("swept as %+v, accepted %v", own.Life, r.Ending.Accepted)
		}
	}
	if len(w.lines(`"by":"`+operator.Name)) < len(list) {
		w.t.Errorf("the record does not say who did it: %v", w.lines(operator.Name))
	}
}

func TestARevocationIsEnforcedOnlyWhenEverySidecarHasCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	w.cars.connect(triage2, false)
	task, c := w.task(triage1, 0)
	elsewhere, ec := w.task(triage2, 0)
	w.granted(c, task, 0)
	last := w.granted(ec, elsewhere, 0)
	w.cars.connect(triage2, true)
	scope := policy.Scope{Kind: policy.ScopeOwner, Name: "support"}
	r, err := w.RevokeScope(w.ctx, operator, scope, 300*time.Millisecond)
	w.must(err)
	if !r.Ending.Enforced.IsZero() || r.Ending.Waiting != grant.WaitSidecar || !r.Ending.Bound.Equal(last.Until) {
		t.Fatalf("one has not cut: %+v", r)
	}
	of := grant.EndingOf{Scope: scope, Revision: r.Ending.Revision}
	if e, err := w.Enforcement(w.ctx, operator, of, 0); err != nil || !e.Enforced.IsZero() || !e.Accepted.Equal(r.Ending.Accepted) {
		t.Errorf("got %+v, %v", e, err)
	}
	w.cars.connect(triage2, false)
	if e, err := w.Enforcement(w.ctx, operator, of, long); err != nil || e.Enforced.IsZero() {
		t.Errorf("after the cut: %+v, %v", e, err)
	}
	if _, err := w.Enforcement(w.ctx, c, of, 0); !errors.Is(err, grant.ErrOperator) {
		t.Errorf("read by an agent: %v", err)
	}
}

func TestARevocationWaitsForTheCheckInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	w.granted(c, task, 0)
	check := w.store.Index().Begin()
	r, err := w.RevokeScope(w.ctx, operator, policy.Scope{Kind: policy.ScopeAll}, 200*time.Millisecond)
	w.must(err)
	if !r.Ending.Enforced.IsZero() || r.Ending.Waiting != grant.WaitReplicas {
		t.Errorf("enforced while a check was in flight: %+v", r)
	}
	check.Done()
}

func TestWithoutASidecarARevocationStatesItsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	w.granted(c, task, 0)
	elsewhere, ec := w.task(triage2, 0)
	st, err := w.Request(w.ctx, ec, grant.Request{Task: elsewhere.ID, Capability: "browse"}, 0)
	w.must(err)
	if r := w.revoke(policy.Scope{Kind: policy.ScopeAll}); r.Ending.Waiting != grant.WaitDisconnected || !r.Ending.Bound.Equal(st.Grant.Until) {
		t.Errorf("got %+v, the grant lasts until %v", r, st.Grant.Until)
	}
}

func TestTheKillSwitchNeedsNoCatalog(t *testing.T) {
	t.Parallel()
	for name, scope := range everyScope {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, shared)
			w.cars.connect(triage1, false)
			task, c := w.task(triage1, 0)
			g := w.granted(c, task, 0)
			w.breakCatalog()
			if r := w.revoke(scope); r.Grants != 1 || r.Ending.Enforced.IsZero() {
				t.Errorf("got %+v", r)
			}
			w.until(task.ID, func(v *policy.TaskView) bool { return find(v, g.ID).Grant.State == policy.Ended })
			w.publish(catalogJSON) // and nothing of it comes back with the catalog
			if st, err := w.Get(w.ctx, operator, g.ID, 0); err != nil || st.Grant.End != policy.EndRevoked {
				t.Errorf("got %+v, %v", st, err)
			}
		})
	}
}

func TestTheKillSwitchWorksInAFullStore(t *testing.T) {
	t.Parallel()
	for name, scope := range everyScope {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOf(t, func(w *world) { w.quota = 4 << 20 })
			w.cars.connect(triage1, false)
			task, c := w.task(triage1, 0)
			g := w.granted(c, task, 0)
			w.fillStore()
			r := w.revoke(scope)
			if r.Grants != 1 || r.Instances != 1 || r.Ending.Enforced.IsZero() {
				t.Errorf("got %+v", r)
			}
			v := w.store.Index().Task(task.ID)
			if h := find(v, g.ID); h != nil && v.Task.Live(w.store.Now()) && h.Grant.Live(w.store.Now()) && !h.Raised() {
				t.Errorf("the grant is active yet: %+v of %+v", h.Grant, v.Task)
			}
			if len(w.lines(`"scope":"`+scope.String()+`"`)) != 1 {
				t.Error("it is not on record")
			}
		})
	}
}

func TestTheKillSwitchDoesNotWaitForTheRecord(t *testing.T) {
	t.Parallel()
	for name, scope := range everyScope {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cars.connect(triage1, false)
			task, c := w.task(triage1, 0)
			g := w.granted(c, task, 0)
			free := w.fullDisk()
			if r := w.revoke(scope); r.Grants != 1 || r.Ending.Enforced.IsZero() {
				t.Errorf("got %+v", r)
			}
			w.until(task.ID, func(v *policy.TaskView) bool { return find(v, g.ID).Grant.State == policy.Ended })
			free()
			w.nudge() // a record that can be written notices that the disk is back
			w.recorded(`"scope":"` + scope.String() + `"`)
			w.recorded(string(g.ID) + `"`)
		})
	}
}

// recorded waits until the log holds a word. Nobody tells when a disk is back.
func (w *world) recorded(word string) {
	w.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for over := time.Now().Add(long); len(w.lines(word)) == 0; <-tick.C {
		if time.Now().After(over) {
			w.t.Fatalf("%s never came to be on record", word)
		}
	}
}

func TestARevocationOfAGrantTakesItsRenewals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g, other := w.granted(c, task, 0), w.granted(c, task, 0)
	next, err := w.Renew(w.ctx, c, g.ID, 0, long)
	w.must(err)
	third, err := w.Renew(w.ctx, c, next.Grant.ID, 0, long)
	w.must(err)
	_, e, err := w.Revoke(w.ctx, operator, g.ID, grant.EnforceWait)
	w.must(err)
	if e.Enforced.IsZero() {
		t.Errorf("got %+v", e)
	}
	for _, id := range []policy.GrantID{g.ID, next.Grant.ID, third.Grant.ID} {
		if st, err := w.Get(w.ctx, c, id, 0); err != nil || st.Grant.State != policy.Ended || st.Grant.End != policy.EndRevoked {
			t.Errorf("got %+v, %v", st, err)
		}
	}
	if st, err := w.Get(w.ctx, c, other.ID, 0); err != nil || !st.Ready {
		t.Errorf("the other grant: %+v, %v", st, err)
	}
}

func TestANameThatNothingBearsIsNotRevoked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, c := w.task(triage1, 0)
	rev := w.store.Index().Revision()
	for name, scope := range map[string]policy.Scope{
		"an agent": {Kind: policy.ScopeAgent, Name: "triagee"}, "an owner": {Kind: policy.ScopeOwner, Name: "supports"},
		"a capability": {Kind: policy.ScopeCapability, Name: "read"}, "no name": {Kind: policy.ScopeAgent},
	} {
		if _, err := w.RevokeScope(w.ctx, operator, scope, 0); !errors.Is(err, grant.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
		if w.store.Index().Floor(scope).Revision() > rev {
			t.Errorf("%s: a floor was raised", name)
		}
	}
	if _, err := w.RevokeScope(w.ctx, c, policy.Scope{Kind: policy.ScopeAgent, Name: "triage"}, 0); !errors.Is(err, grant.ErrOperator) {
		t.Errorf("by the agent: %v", err)
	}
}

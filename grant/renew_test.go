package grant_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

func TestARenewalIsAGrantOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	old := w.granted(c, task, time.Minute)
	st, err := w.Renew(w.ctx, c, old.ID, 2*time.Minute, long)
	w.must(err)
	g := st.Grant
	if !st.Ready || g.ID == old.ID || g.Renews != old.ID || g.Params["ticket"] != "OPS-42" || !g.Until.After(old.Until) || g.Digest != old.Digest {
		t.Fatalf("got %+v of %+v", st, old)
	}
	v := w.store.Index().Task(task.ID)
	if find(v, g.ID).Credential == find(v, old.ID).Credential || find(v, g.ID).Credential.Grant != g.ID {
		t.Error("it has no credential of its own")
	}
	if was, err := w.Get(w.ctx, c, old.ID, 0); err != nil || !was.Ready || !was.Grant.Until.Equal(old.Until) {
		t.Errorf("the old one goes on to its own end: %+v, %v", was, err)
	}
	r, err := w.Service.Receipt(w.ctx, c, task.ID)
	w.must(err)
	if len(r.Grants) != 2 || r.Grants[1].Renews != old.ID {
		t.Errorf("the receipt: %+v", r.Grants)
	}
}

func TestARenewalIsDecidedAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, time.Minute)
	var refused *policy.RequestError
	if _, err := w.Renew(w.ctx, c, g.ID, time.Hour, 0); !errors.As(err, &refused) || refused.Code != policy.CodeTTLTooLong {
		t.Errorf("too long: %v", err)
	}
	for name, caller := range map[string]grant.Caller{"another agent": w.as(writer, task.Credential), "another instance": w.as(triage2, task.Credential)} {
		if _, err := w.Renew(w.ctx, caller, g.ID, 0, 0); !errors.Is(err, grant.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := w.Renew(w.ctx, w.as(triage1, policy.Secret{}), g.ID, 0, 0); !errors.Is(err, grant.ErrProof) {
		t.Errorf("without proof: %v", err)
	}
	w.publish(strings.Replace(catalogJSON, `{"name": "read-ticket", "params": {"project": ["OPS", "SUP"]}}, `, ``, 1))
	if _, err := w.Renew(w.ctx, w.as(triage1, task.Credential), g.ID, 0, 0); !errors.Is(err, grant.ErrGrantEnded) {
		t.Errorf("of what the catalog no longer gives: %v", err)
	}
}

func TestWhatEndedIsNotRenewed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*world, grant.Caller, policy.Grant){
		"ended":   func(w *world, c grant.Caller, g policy.Grant) { _, _, err := w.End(w.ctx, c, g.ID); w.must(err) },
		"revoked": func(w *world, _ grant.Caller, _ policy.Grant) { w.revoke(policy.Scope{Kind: policy.ScopeAll}) },
		"expired": func(w *world, _ grant.Caller, _ policy.Grant) { w.ahead.Store(int64(5 * time.Minute)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cars.connect(triage1, false)
			task, c := w.task(triage1, 0)
			g := w.granted(c, task, time.Minute)
			end(w, c, g)
			if _, err := w.Renew(w.ctx, c, g.ID, 0, 0); !errors.Is(err, grant.ErrGrantEnded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Whatever a service believes: the store makes no successor of what has ended.
func TestTheStoreRenewsOnlyWhatIsActive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, time.Minute)
	seen := w.store.Index().Revision()
	_, _, err := w.End(w.ctx, c, g.ID)
	w.must(err)
	next := g
	next.ID, next.Renews = "g_01J00000000000000000000009", g.ID
	if _, err := w.store.CreateGrants(w.ctx, seen, next); !errors.Is(err, store.ErrConflict) {
		t.Errorf("got %v", err)
	}
}

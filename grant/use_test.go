package grant_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// limitedJSON gives browse two uses and other a rate.
var limitedJSON = strings.Replace(strings.Replace(catalogJSON,
	`"calls": [{"method": "GET", "path": "/v1/tickets"}],
    "limits": {"ttl": "5m", "maxTTL": "15m"}`,
	`"calls": [{"method": "GET", "path": "/v1/tickets"}],
    "limits": {"ttl": "5m", "maxTTL": "15m", "maxUses": 2, "rate": {"calls": 5, "per": "1h"}}`, 1),
	`{"name": "browse"}]`, `{"name": "browse"}, {"name": "other"}]`, 1)

func use(id string) policy.UseRequest { return policy.UseRequest{ID: id} }

// browsing asks for a grant of browse and gives it as the index holds it.
func (w *world) browsing(c grant.Caller, t policy.Task, uses int64) *policy.Held {
	w.t.Helper()
	st, err := w.Request(w.ctx, c, grant.Request{Task: t.ID, Capability: "browse", MaxUses: uses}, 0)
	w.must(err)
	return find(w.until(t.ID, func(v *policy.TaskView) bool { return find(v, st.Grant.ID) != nil }), st.Grant.ID)
}

func TestAGrantIsUsedAsOftenAsItSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(limitedJSON)
	task, c := w.task(triage1, 0)
	h := w.browsing(c, task, 0)
	if h.Grant.MaxUses != 2 {
		t.Fatalf("it may be used %d times", h.Grant.MaxUses)
	}
	for n, want := range []policy.Reason{policy.Allowed, policy.Allowed, policy.UsesExhausted} {
		if got := w.Consume(t.Context(), h, use(fmt.Sprint(n))); got.Reason != want || got.Use == nil {
			t.Errorf("use %d: %+v, want %s", n, got, want)
		}
	}
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, h.Grant.ID).Use.Used == 2 })
	st, err := w.Get(t.Context(), c, h.Grant.ID, 0)
	if err != nil || st.Used != 2 || st.Grant.State != policy.Active {
		t.Errorf("a spent grant is still active: %+v, %v", st, err)
	}
	w.must(w.Settle(t.Context(), h, "1", policy.CallEnd{Unreached: true}))
	if got := w.Consume(t.Context(), h, use("3")); got.Reason != policy.Allowed {
		t.Errorf("after one was given back: %s", got.Reason)
	}
	r, err := w.EndTask(t.Context(), c, task.ID, policy.EndCompleted)
	if err != nil || r.Used[h.Grant.ID] != 2 {
		t.Errorf("the receipt says %v, %v", r.Used, err)
	}
	if got := w.Consume(t.Context(), h, use("4")); got.Reason != policy.GrantEnded {
		t.Errorf("after the end: %s", got.Reason)
	}
}

func TestFewerUsesMayBeAskedForAndMoreNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(limitedJSON)
	task, c := w.task(triage1, 0)
	if h := w.browsing(c, task, 1); h.Grant.MaxUses != 1 {
		t.Errorf("asked for one, got %d", h.Grant.MaxUses)
	}
	_, err := w.Request(t.Context(), c, grant.Request{Task: task.ID, Capability: "browse", MaxUses: 3}, 0)
	var refused *policy.RequestError
	if !errors.As(err, &refused) || refused.Code != policy.CodeTooManyUses || refused.Field != "maxUses" {
		t.Errorf("three of two: %v", err)
	}
	st, err := w.Request(t.Context(), c, grant.Request{Task: task.ID, Capability: "other", MaxUses: 7}, 0)
	if err != nil || st.Grant.MaxUses != 7 {
		t.Errorf("of a capability without a limit: %+v, %v", st.Grant, err)
	}
}

func TestWhyAUseIsNotHad(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(strings.Replace(limitedJSON, `"maxUses": 2`, `"maxUses": 9`, 1))
	task, c := w.task(triage1, 0)
	h := w.browsing(c, task, 0)
	for n := range 5 {
		if got := w.Consume(t.Context(), h, use(fmt.Sprint(n))); got.Reason != policy.Allowed {
			t.Fatal(got.Reason)
		}
	}
	if got := w.Consume(t.Context(), h, use("6")); got.Reason != policy.RateLimited || got.After <= 0 {
		t.Errorf("past the rate: %+v", got)
	}
	if got := w.Consume(t.Context(), h, policy.UseRequest{}); got.Reason == policy.Allowed {
		t.Error("a use without an ID")
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if got := w.Consume(gone, h, use("7")); got.Reason != policy.StateStale {
		t.Errorf("when nobody waits: %s", got.Reason)
	}
	once := policy.UseRequest{ID: "8", Call: "pay-7"}
	st, err := w.Request(t.Context(), c, grant.Request{Task: task.ID, Capability: "read-ticket", Params: ticket}, 0)
	w.must(err)
	free := w.held(task, st.Grant.ID)
	if got := w.Consume(t.Context(), free, once); got.Reason != policy.Allowed {
		t.Errorf("a call with a name: %s", got.Reason)
	}
	once.ID = "9"
	if got := w.Consume(t.Context(), free, once); got.Reason != policy.Replayed {
		t.Errorf("the same call again: %s", got.Reason)
	}
	// Whose ancestor is not there has none.
	orphan := *h
	orphan.Grant.Chain = []policy.GrantID{"g_01J00000000000000000000009"}
	if got := w.Consume(t.Context(), &orphan, use("10")); got.Reason != policy.GrantEnded {
		t.Errorf("without its ancestor: %s", got.Reason)
	}
}

func (w *world) held(t policy.Task, id policy.GrantID) *policy.Held {
	w.t.Helper()
	return find(w.until(t.ID, func(v *policy.TaskView) bool { return find(v, id) != nil }), id)
}

func TestTheLastUseIsHadOnceOverReplicas(t *testing.T) {
	t.Parallel()
	w := pair(t)
	w[0].publish(limitedJSON)
	w[1].publish(limitedJSON)
	task, c := w[0].task(triage1, 0)
	h := w[0].browsing(c, task, 0)
	other := w[1].held(task, h.Grant.ID)
	var allowed atomic.Int32
	var wg sync.WaitGroup
	for n := range 16 {
		wg.Go(func() {
			by, of := w[n%2], h
			if n%2 == 1 {
				of = other
			}
			switch got := by.Consume(t.Context(), of, use(fmt.Sprint(n))); got.Reason {
			case policy.Allowed:
				allowed.Add(1)
			case policy.UsesExhausted, policy.RateLimited:
			default:
				t.Errorf("got %s", got.Reason)
			}
		})
	}
	wg.Wait()
	if allowed.Load() != 2 {
		t.Errorf("%d uses of two", allowed.Load())
	}
}

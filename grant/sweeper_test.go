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

func TestTheSweeperWritesDownWhatExpired(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 4*time.Second)
	g := w.granted(c, task, 2*time.Second)
	w.until(task.ID, func(v *policy.TaskView) bool {
		own, err := w.store.GetGrant(w.ctx, g.ID)
		return err == nil && own.State == policy.Ended && own.End == policy.EndExpired && own.EndedAt.Equal(g.Until)
	})
	v := w.until(task.ID, func(v *policy.TaskView) bool { return v.Task.State == policy.Ended })
	if v.Task.End != policy.EndExpired || !v.Task.EndedAt.Equal(task.Until) {
		t.Errorf("got %+v", v.Task.Life)
	}
}

func TestAReadGrantHasExpiredThoughNobodyWroteItDown(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, time.Hour)
	g := w.granted(c, task, time.Minute)
	w.ahead.Store(int64(time.Minute)) // the sweeper's timer does not know
	st, err := w.Get(w.ctx, c, g.ID, 0)
	w.must(err)
	if st.Ready || st.Grant.State != policy.Ended || st.Grant.End != policy.EndExpired {
		t.Errorf("got %+v", st)
	}
}

func TestAGrantThatTheCatalogNoLongerGivesEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	w.publish(strings.Replace(catalogJSON, `"path": "/v1/tickets/${ticket}"`, `"path": "/v2/tickets/${ticket}"`, 1))
	v := w.until(task.ID, func(v *policy.TaskView) bool { return find(v, g.ID).Grant.State == policy.Ended })
	if end := find(v, g.ID).Grant.End; end != policy.EndPolicyChanged {
		t.Errorf("ended as %s", end)
	}
	// What it gives now can be asked for.
	w.granted(w.as(triage1, task.Credential), task, 0)
}

func TestAnEndedTaskIsForgottenAfterRetention(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, time.Millisecond)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	_, err := w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	w.until(task.ID, func(v *policy.TaskView) bool { return v == nil })
	if _, err := w.store.GetGrant(w.ctx, g.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the grant is still there: %v", err)
	}
	if _, err := w.Task(w.ctx, c, task.ID); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("got %v", err)
	}
}

func TestTheSweeperGoesOnWhereTheLastOneStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 2*time.Second)
	w.reopen() // it may expire while nobody runs
	w.until(task.ID, func(v *policy.TaskView) bool {
		h := find(v, g.ID)
		return h != nil && h.Grant.State == policy.Ended && h.Grant.End == policy.EndExpired
	})
}

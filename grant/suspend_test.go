package grant_test

import (
	"errors"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

func TestASuspendedAgentBeginsNothingAndNothingComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	other, oc := w.task(writer, 0)

	st, r, err := w.Suspend(w.ctx, operator, "triage", "it read too much", grant.EnforceWait)
	w.must(err)
	if st.Suspension == nil || st.Suspension.By != operator.Name || r.Grants != 1 || r.Ending.Enforced.IsZero() {
		t.Fatalf("got %+v, %+v", st, r)
	}
	var suspended *grant.SuspendedError
	if _, err := w.StartTask(w.ctx, c, grant.TaskRequest{}); !errors.As(err, &suspended) || suspended.By != operator.Name || suspended.Why != "it read too much" {
		t.Errorf("a task: %v", err)
	}
	if _, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 0); !errors.As(err, &suspended) {
		t.Errorf("a grant: %v", err)
	}
	if got, err := w.Get(w.ctx, c, g.ID, 0); err != nil || got.Grant.End != policy.EndAgentSuspended {
		t.Errorf("its grant: %+v, %v", got, err)
	}
	w.until(task.ID, func(v *policy.TaskView) bool {
		h := find(v, g.ID)
		return h.Grant.State == policy.Ended && h.Grant.End == policy.EndAgentSuspended && v.Task.State == policy.Active
	})
	if _, err := w.Request(w.ctx, oc, grant.Request{Task: other.ID, Capability: "browse"}, 0); err != nil {
		t.Errorf("the other agent: %v", err)
	}

	back, err := w.ResumeAgent(w.ctx, operator, "triage")
	w.must(err)
	if back.Suspension != nil || back.Tasks != 0 {
		t.Errorf("got %+v", back)
	}
	v := w.until(task.ID, func(v *policy.TaskView) bool { return v.Task.State == policy.Ended })
	if v.Task.End != policy.EndAgentSuspended {
		t.Errorf("the task ended as %s", v.Task.End)
	}
	if got, err := w.Get(w.ctx, c, g.ID, 0); err != nil || got.Grant.State != policy.Ended || got.Grant.End != policy.EndAgentSuspended {
		t.Errorf("the grant came back: %+v, %v", got, err)
	}
	fresh, fc := w.task(triage1, 0)
	w.granted(fc, fresh, 0)
	if len(w.lines(`"scope":"agent/triage"`)) != 2 {
		t.Errorf("the record: %v", w.lines(`"scope":"agent/triage"`))
	}
}

func TestASuspensionIsTheFirstOnes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, _, err := w.Suspend(w.ctx, operator, "triage", "first", 0)
	w.must(err)
	st, _, err := w.Suspend(w.ctx, grant.Caller{Operator: true, Name: "another"}, "triage", "second", 0)
	w.must(err)
	if st.Suspension.By != operator.Name || st.Suspension.Why != "first" {
		t.Errorf("got %+v", st.Suspension)
	}
	for _, name := range []string{"nobody", "", "a\x1bb"} {
		if _, _, err := w.Suspend(w.ctx, operator, name, "", 0); !errors.Is(err, grant.ErrNotFound) {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, _, err := w.Suspend(w.ctx, w.as(triage1, policy.Secret{}), "writer", "", 0); !errors.Is(err, grant.ErrOperator) {
		t.Errorf("by an agent: %v", err)
	}
	list := w.Agents(operator)
	if len(list) != 2 || list[0].Name != "triage" || list[0].Suspension == nil || list[1].Suspension != nil {
		t.Errorf("got %+v", list)
	}
}

// A suspension outlives restarts, and needs no catalog to hold.
func TestASuspensionSurvivesARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	_, _, err := w.Suspend(w.ctx, operator, "triage", "", 0)
	w.must(err)
	w.reopen()
	if w.store.Index().Suspended("triage") == nil {
		t.Error("it is forgotten")
	}
	// Whatever a service decides, the store itself refuses.
	task := policy.Task{ID: "t_01J00000000000000000000000", Agent: "triage", Instance: triage1,
		Life: policy.Life{State: policy.Active, Until: w.store.Now().Add(time.Hour)}}
	if _, err := w.store.CreateTask(w.ctx, task); !errors.Is(err, store.ErrSuspended) {
		t.Errorf("the store takes a task: %v", err)
	}
}

// In a full store what the agent has still ends, and it is said that the
// suspension itself could not be written.
func TestSuspendingInAFullStoreEndsWhatThereIs(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, func(w *world) { w.quota = 4 << 20 })
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	w.granted(c, task, 0)
	w.fillStore()
	if _, _, err := w.Suspend(w.ctx, operator, "triage", "", grant.EnforceWait); !errors.Is(err, store.ErrFull) {
		t.Errorf("got %v", err)
	}
	w.until(task.ID, func(v *policy.TaskView) bool { return v == nil || v.Task.State == policy.Ended })
}

package grant_test

import (
	"errors"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

func TestAnEndingIsEnforcedOnlyAfterTheCheckInFlight(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)

	check := w.store.Index().Begin() // a check that may have seen the grant as active
	done := make(chan grant.Ending, 1)
	go func() {
		_, e, err := w.End(w.ctx, c, g.ID)
		if err != nil {
			t.Error(err)
		}
		done <- e
	}()
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, g.ID).Grant.State == policy.Ended })
	select {
	case e := <-done:
		t.Fatalf("enforced while a check was in flight: %+v", e)
	default:
	}
	finished := w.store.Now()
	check.Done()
	e := <-done
	if e.Accepted.IsZero() || e.Enforced.Before(finished) || e.Waiting != "" {
		t.Fatalf("got %+v; the check ended at %v", e, finished)
	}
}

func TestAnEndingIsEnforcedOnlyAfterTheSidecarHasCut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	w.cars.connect(triage1, true)
	done := make(chan grant.Ending, 1)
	go func() {
		_, e, err := w.End(w.ctx, c, g.ID)
		if err != nil {
			t.Error(err)
		}
		done <- e
	}()
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, g.ID).Grant.State == policy.Ended })
	select {
	case e := <-done:
		t.Fatalf("enforced before the cut: %+v", e)
	default:
	}
	w.cars.connect(triage1, false)
	if e := <-done; e.Enforced.IsZero() {
		t.Fatalf("got %+v", e)
	}
}

func TestAnEndingWithoutASidecarStatesItsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task, c := w.task(triage1, 0)
	st, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 0)
	w.must(err)
	_, e, err := w.End(w.ctx, c, st.Grant.ID)
	w.must(err)
	if !e.Enforced.IsZero() || e.Waiting != grant.WaitDisconnected || !e.Bound.Equal(st.Grant.Until) || e.Accepted.IsZero() {
		t.Errorf("got %+v, the grant lasts until %v", e, st.Grant.Until)
	}
}

func TestATasksEndIsThatOfAllItsGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	first, second := w.granted(c, task, 0), w.granted(c, task, 0)
	other, oc := w.task(triage1, 0)
	kept := w.granted(oc, other, 0)

	r, err := w.EndTask(w.ctx, c, task.ID, policy.EndFailed)
	w.must(err)
	if r.Task.State != policy.Ended || r.Task.End != policy.EndFailed || r.Ending.Enforced.IsZero() || len(r.Grants) != 2 {
		t.Fatalf("got %+v", r)
	}
	for _, id := range []policy.GrantID{first.ID, second.ID} {
		st, err := w.Get(w.ctx, c, id, 0)
		w.must(err)
		if st.Ready || st.Grant.State != policy.Ended || st.Grant.End != policy.EndFailed {
			t.Errorf("got %+v", st)
		}
		// The sweeper gives each an end of its own.
		w.until(task.ID, func(v *policy.TaskView) bool {
			g, err := w.store.GetGrant(w.ctx, id)
			return err == nil && g.State == policy.Ended && g.End == policy.EndFailed
		})
	}
	if st, err := w.Get(w.ctx, oc, kept.ID, 0); err != nil || !st.Ready {
		t.Errorf("the other task's grant: %+v, %v", st, err)
	}
}

func TestEndingTwiceChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	first, _, err := w.End(w.ctx, c, g.ID)
	w.must(err)
	again, e, err := w.Revoke(w.ctx, operator, g.ID, grant.EnforceWait)
	w.must(err)
	if again.Grant.End != policy.EndCompleted || !again.Grant.EndedAt.Equal(first.Grant.EndedAt) || e.Enforced.IsZero() {
		t.Errorf("got %+v, %+v", again, e)
	}
	_, err = w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	r, err := w.RevokeTask(w.ctx, operator, task.ID, grant.EnforceWait)
	w.must(err)
	if r.Task.End != policy.EndCompleted || r.Ending.Enforced.IsZero() {
		t.Errorf("got %+v", r)
	}
}

func TestWhatIsSomeoneElsesIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	mine, _ := w.task(triage1, 0)
	theirs, _ := w.task(writer, 0)
	for name, c := range map[string]grant.Caller{
		"another agent with the credential":            w.as(writer, task.Credential),
		"another agent":                                w.as(writer, theirs.Credential),
		"another instance of the same agent":           w.as(triage2, task.Credential),
		"the same instance with another task's":        w.as(triage1, mine.Credential),
		"the same instance with a wrong credential":    w.as(triage1, policy.NewSecret("guess")),
		"another agent from a room of the task's name": {Agent: w.as(writer, policy.Secret{}).Agent, Instance: writer, TaskFromRoom: task.ID},
	} {
		t.Run(name, func(t *testing.T) {
			for what, id := range map[string]struct {
				task  policy.TaskID
				grant policy.GrantID
			}{
				"theirs": {task.ID, g.ID},
				"none":   {"t_01J00000000000000000000000", "g_01J00000000000000000000000"},
				"no id":  {"t_../t_01J0", ""},
			} {
				for call, err := range w.everything(c, id.task, id.grant) {
					if !errors.Is(err, grant.ErrNotFound) {
						t.Errorf("%s of %s: %v", call, what, err)
					}
				}
			}
		})
	}
	bare := w.as(triage1, policy.Secret{})
	for call, err := range w.everything(bare, task.ID, g.ID) {
		if reads := call == "Task" || call == "Get" || call == "Receipt" || call == "Denials"; reads && err != nil || !reads && !errors.Is(err, grant.ErrProof) {
			t.Errorf("%s without proof: %v", call, err)
		}
	}
	if st, err := w.Get(w.ctx, w.as(triage1, task.Credential), g.ID, 0); err != nil || !st.Ready {
		t.Errorf("after all that: %+v, %v", st, err)
	}
}

// everything does everything that a caller could try about a task and a grant.
func (w *world) everything(c grant.Caller, task policy.TaskID, g policy.GrantID) map[string]error {
	out := map[string]error{}
	_, out["Task"] = w.Task(w.ctx, c, task)
	_, out["Get"] = w.Get(w.ctx, c, g, 0)
	_, out["Receipt"] = w.Service.Receipt(w.ctx, c, task)
	_, _, out["Denials"] = w.Denials(w.ctx, c, task, 0, false)
	_, out["Request"] = w.Request(w.ctx, c, grant.Request{Task: task, Capability: "browse"}, 0)
	_, _, out["End"] = w.End(w.ctx, c, g)
	_, out["EndTask"] = w.EndTask(w.ctx, c, task, policy.EndCompleted)
	return out
}

func TestOnlyAnOperatorRevokesAndItStartsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	if _, _, err := w.Revoke(w.ctx, c, g.ID, grant.EnforceWait); !errors.Is(err, grant.ErrOperator) {
		t.Errorf("the agent revokes: %v", err)
	}
	if _, err := w.RevokeTask(w.ctx, c, task.ID, grant.EnforceWait); !errors.Is(err, grant.ErrOperator) {
		t.Errorf("the agent revokes the task: %v", err)
	}
	if _, err := w.StartTask(w.ctx, operator, grant.TaskRequest{}); !errors.Is(err, grant.ErrNoInstance) {
		t.Errorf("the operator starts a task: %v", err)
	}
	for call, err := range w.everything(operator, task.ID, g.ID) {
		if reads := call == "Task" || call == "Get" || call == "Receipt" || call == "Denials"; reads && err != nil || !reads && !errors.Is(err, grant.ErrNoInstance) {
			t.Errorf("%s by the operator: %v", call, err)
		}
	}
	st, e, err := w.Revoke(w.ctx, operator, g.ID, grant.EnforceWait)
	w.must(err)
	if st.Grant.End != policy.EndRevoked || e.Enforced.IsZero() {
		t.Errorf("got %+v, %+v", st, e)
	}
}

func TestAFloorEndsWhatWasGrantedBefore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	old := w.granted(c, task, 0)
	_, err := w.store.RaiseFloor(w.ctx, policy.Scope{Kind: policy.ScopeCapability, Name: "read-ticket"})
	w.must(err)
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, old.ID).Raised() })
	st, err := w.Get(w.ctx, c, old.ID, 0)
	w.must(err)
	if st.Ready || st.Grant.State != policy.Ended || st.Grant.End != policy.EndRevoked {
		t.Errorf("got %+v", st)
	}
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, old.ID).Grant.State == policy.Ended })
	if g := w.granted(c, task, 0); g.ID == old.ID {
		t.Error("the old grant came back")
	}
}

func TestEndedStaysEndedAcrossARestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	ended, kept := w.granted(c, task, 0), w.granted(c, task, 0)
	_, _, err := w.End(w.ctx, c, ended.ID)
	w.must(err)
	w.reopen()
	w.cars.connect(triage1, false)
	c = w.as(triage1, task.Credential)
	if st, err := w.Get(w.ctx, c, kept.ID, long); err != nil || !st.Ready {
		t.Errorf("the active one: %+v, %v", st, err)
	}
	if st, err := w.Get(w.ctx, c, ended.ID, time.Second); err != nil || st.Ready || st.Grant.End != policy.EndCompleted {
		t.Errorf("the ended one: %+v, %v", st, err)
	}
	_, err = w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	w.reopen()
	if st, err := w.Get(w.ctx, w.as(triage1, task.Credential), kept.ID, 0); err != nil || st.Ready || st.Grant.State != policy.Ended {
		t.Errorf("after its task's end: %+v, %v", st, err)
	}
}

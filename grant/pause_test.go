package grant_test

import (
	"errors"
	"testing"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

func TestAPauseEndsTheGrantsAndKeepsTheTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	other, oc := w.task(triage1, 0)
	kept := w.granted(oc, other, 0)

	r, err := w.Pause(w.ctx, c, task.ID, grant.EnforceWait)
	w.must(err)
	if r.Task.State != policy.Paused || r.Ending.Enforced.IsZero() || r.Ending.Enforced.Before(r.Ending.Accepted) || r.Ending.Revision == 0 {
		t.Fatalf("got %+v", r)
	}
	if len(r.Grants) != 1 || r.Grants[0].State != policy.Ended || r.Grants[0].End != policy.EndRevoked || !r.Grants[0].EndedAt.Equal(r.Ending.Accepted) {
		t.Errorf("its grants: %+v, accepted %v", r.Grants, r.Ending.Accepted)
	}
	if st, err := w.Get(w.ctx, oc, kept.ID, 0); err != nil || !st.Ready {
		t.Errorf("the other task's grant: %+v, %v", st, err)
	}
	if _, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 0); !errors.Is(err, grant.ErrPaused) {
		t.Errorf("a request while paused: %v", err)
	}
	again, err := w.Pause(w.ctx, c, task.ID, grant.EnforceWait)
	w.must(err)
	if again.Ending.Enforced.IsZero() || !again.Ending.Accepted.Equal(r.Ending.Accepted) {
		t.Errorf("paused twice: %+v, then %+v", r.Ending, again.Ending)
	}
	resumed, err := w.Resume(w.ctx, c, task.ID)
	w.must(err)
	if resumed.State != policy.Active || resumed.PausedBy != "" {
		t.Errorf("got %+v", resumed)
	}
	if st, err := w.Get(w.ctx, c, g.ID, 0); err != nil || st.Grant.State != policy.Ended {
		t.Errorf("the grant came back: %+v, %v", st, err)
	}
	w.granted(c, task, 0)
	if _, err := w.Resume(w.ctx, c, task.ID); err != nil {
		t.Errorf("resuming what is not paused: %v", err)
	}
	if n := len(w.lines(`"to":"paused"`)); n != 1 {
		t.Errorf("%d records of the pause", n)
	}
}

func TestAnAgentDoesNotResumeWhatAPersonPaused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task, c := w.task(triage1, 0)
	r, err := w.Pause(w.ctx, operator, task.ID, 0)
	w.must(err)
	if r.Task.PausedBy != operator.Name {
		t.Errorf("paused by %q", r.Task.PausedBy)
	}
	if _, err := w.Resume(w.ctx, c, task.ID); !errors.Is(err, grant.ErrPausedByOther) {
		t.Errorf("the agent resumes: %v", err)
	}
	if _, err := w.Pause(w.ctx, c, task.ID, 0); err != nil { // and cannot make the pause its own
		t.Error(err)
	}
	if _, err := w.Resume(w.ctx, c, task.ID); !errors.Is(err, grant.ErrPausedByOther) {
		t.Errorf("the agent resumes: %v", err)
	}
	_, err = w.Resume(w.ctx, operator, task.ID)
	w.must(err)
	_, err = w.Pause(w.ctx, c, task.ID, 0)
	w.must(err)
	if _, err := w.Resume(w.ctx, c, task.ID); err != nil {
		t.Errorf("what it paused itself: %v", err)
	}
}

func TestWhatEndedIsNeitherPausedNorResumed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task, c := w.task(triage1, 0)
	_, err := w.Pause(w.ctx, c, task.ID, 0)
	w.must(err)
	_, err = w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	if _, err := w.Resume(w.ctx, c, task.ID); !errors.Is(err, grant.ErrEnded) {
		t.Errorf("resumed: %v", err)
	}
	if _, err := w.Pause(w.ctx, c, task.ID, 0); !errors.Is(err, grant.ErrEnded) {
		t.Errorf("paused: %v", err)
	}
	stranger := w.as(writer, task.Credential)
	if _, err := w.Pause(w.ctx, stranger, task.ID, 0); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("by another agent: %v", err)
	}
}

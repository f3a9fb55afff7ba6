package grant_test

import (
	"errors"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// beating starts a task that promises a heartbeat.
func (w *world) beating(i policy.Instance, every time.Duration) (policy.Task, grant.Caller) {
	w.t.Helper()
	t, err := w.StartTask(w.ctx, w.as(i, policy.Secret{}), grant.TaskRequest{Heartbeat: every})
	w.must(err)
	return t, w.as(i, t.Credential)
}

// nudge makes the sweeper look at its deadlines by a clock that was set forward.
func (w *world) nudge() {
	w.t.Helper()
	_, _ = w.task(writer, 0)
}

func TestATaskWhoseHeartbeatIsLostHasFailed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.beating(triage1, 5*time.Second)
	g := w.granted(c, task, 0)
	if !task.BeatBy.Equal(task.Began.Add(10 * time.Second)) {
		t.Fatalf("began %v, lost at %v", task.Began, task.BeatBy)
	}
	w.ahead.Store(int64(9 * time.Second))
	beaten, err := w.Heartbeat(w.ctx, c, task.ID)
	w.must(err)
	if !beaten.BeatBy.After(task.BeatBy) {
		t.Fatalf("the heartbeat moved %v to %v", task.BeatBy, beaten.BeatBy)
	}
	w.until(task.ID, func(v *policy.TaskView) bool { return v.Task.BeatBy.Equal(beaten.BeatBy) })

	w.ahead.Store(int64(30 * time.Second))
	// Nobody has written anything, and no replica lets a call out.
	v := w.store.Index().Task(task.ID)
	if v.Task.Live(w.store.Now()) || v.Task.State == policy.Ended {
		t.Errorf("got %+v at %v", v.Task.Life, w.store.Now())
	}
	if _, err := w.Heartbeat(w.ctx, c, task.ID); !errors.Is(err, grant.ErrEnded) {
		t.Errorf("a late heartbeat: %v", err)
	}
	if _, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 0); !errors.Is(err, grant.ErrEnded) {
		t.Errorf("a late request: %v", err)
	}
	w.nudge()
	v = w.until(task.ID, func(v *policy.TaskView) bool { return v.Task.State == policy.Ended })
	if v.Task.End != policy.EndFailed || !v.Task.EndedAt.Equal(beaten.BeatBy) {
		t.Errorf("ended as %s at %v, want failed at %v", v.Task.End, v.Task.EndedAt, beaten.BeatBy)
	}
	v = w.until(task.ID, func(*policy.TaskView) bool {
		own, err := w.store.GetGrant(w.ctx, g.ID)
		return err == nil && own.State == policy.Ended
	})
	if end := find(v, g.ID).Grant.End; end != policy.EndFailed {
		t.Errorf("the grant ended as %s", end)
	}
	if n := len(w.lines("no heartbeat came in time")); n != 1 {
		t.Errorf("%d records say why", n)
	}
}

func TestHeartbeatsKeepATaskAliveAndFillNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task, c := w.beating(triage1, 5*time.Second)
	rev := w.until(task.ID, func(v *policy.TaskView) bool { return v != nil }).Revision
	for range 20 { // all at once
		_, err := w.Heartbeat(w.ctx, c, task.ID)
		w.must(err)
	}
	if now := w.store.Index().Task(task.ID).Revision; now != rev {
		t.Errorf("heartbeats within a quarter of the interval were written: revision %d, then %d", rev, now)
	}
	for range 10 {
		w.ahead.Add(int64(5 * time.Second))
		_, err := w.Heartbeat(w.ctx, c, task.ID)
		w.must(err)
		w.nudge()
	}
	if v := w.store.Index().Task(task.ID); !v.Task.Live(w.store.Now()) {
		t.Errorf("got %+v at %v", v.Task.Life, w.store.Now())
	}
	// A paused task needs them as well, and lives by them.
	_, err := w.Pause(w.ctx, c, task.ID, time.Second)
	w.must(err)
	w.ahead.Add(int64(6 * time.Second))
	_, err = w.Heartbeat(w.ctx, c, task.ID)
	w.must(err)
	w.ahead.Add(int64(11 * time.Second))
	w.nudge()
	if v := w.until(task.ID, func(v *policy.TaskView) bool { return v.Task.State == policy.Ended }); v.Task.End != policy.EndFailed {
		t.Errorf("ended as %s", v.Task.End)
	}
}

func TestATaskWithoutAHeartbeatNeedsNone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task, c := w.task(triage1, 0)
	if _, err := w.Heartbeat(w.ctx, c, task.ID); !errors.Is(err, grant.ErrNoHeartbeat) {
		t.Errorf("got %v", err)
	}
	for _, every := range []time.Duration{time.Second, -time.Second, 2 * time.Hour} {
		var invalid *grant.InvalidError
		_, err := w.StartTask(w.ctx, w.as(triage1, policy.Secret{}), grant.TaskRequest{Heartbeat: every})
		if !errors.As(err, &invalid) || invalid.Field != "heartbeat" {
			t.Errorf("%v: %v", every, err)
		}
	}
}

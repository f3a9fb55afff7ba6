package grant

import (
	"context"
	"errors"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Bounds of a heartbeat's interval, and how many may be missed: a task is given
// up for lost once none came for so many intervals.
const (
	MinHeartbeat  = 5 * time.Second
	MaxHeartbeat  = time.Hour
	MissedForLost = 2

	// beatShare is the part of an interval within which a further heartbeat is
	// not written down, so that no caller can fill the store with them.
	beatShare = 4
)

// Heartbeat says on behalf of the task that it is still worked on. Without one
// for MissedForLost intervals the task ends by itself, as failed: its record
// holds that moment, so that every replica denies by itself. A paused task needs
// its heartbeats as well.
func (s *Service) Heartbeat(ctx context.Context, c Caller, id policy.TaskID) (policy.Task, error) {
	if err := asAgent(c); err != nil {
		return policy.Task{}, err
	}
	v, err := s.view(ctx, id)
	if v, err = changeable(c, v, err); err != nil {
		return policy.Task{}, err
	}
	if v.Task.State != policy.Ended && v.Task.BeatBy.IsZero() {
		return policy.Task{}, ErrNoHeartbeat
	}
	t, _, err := s.store.ChangeTask(ctx, id, func(t policy.Task) (policy.Task, error) {
		now := s.store.Now()
		next, err := policy.Transition(t.Life, policy.Beat(now.Add(MissedForLost*t.Heartbeat)), now)
		if err == nil && next.BeatBy.Sub(t.BeatBy) >= t.Heartbeat/beatShare {
			t.Life = next
		}
		return t, err
	})
	return t, s.stateError(t, err)
}

// stateError says of a change that a task's state does not allow why that is.
func (s *Service) stateError(t policy.Task, err error) error {
	switch {
	case errors.Is(err, policy.ErrEnded), errors.Is(err, policy.ErrTransition) && t.Over(s.store.Now()):
		return ErrEnded
	case errors.Is(err, policy.ErrTransition) && t.State == policy.Paused:
		return ErrPaused
	}
	return hide(err)
}

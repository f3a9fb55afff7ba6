package grant

import (
	"context"
	"errors"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Pause ends all grants of a task, while the task itself stays: its calls are
// denied and it gets no grants until it is resumed. Its agent may do it, and
// whoever may suspend what is the agent's. The receipt says how far the grants'
// ending is. Pausing what is paused changes nothing.
func (s *Service) Pause(ctx context.Context, c Caller, id policy.TaskID, wait time.Duration) (Receipt, error) {
	v, err := s.actsOn(ctx, c, id, policy.VerbSuspend)
	if err != nil {
		return Receipt{}, err
	}
	open := openIn(v, s.store.Now())
	t, rev, err := s.store.ChangeTask(ctx, id, func(t policy.Task) (policy.Task, error) {
		l, err := policy.Transition(t.Life, policy.Event{Kind: policy.EventPause}, s.store.Now())
		if err == nil {
			t.Life, t.PausedBy = l, c.Name
		}
		return t, err
	})
	already := errors.Is(err, policy.ErrTransition) && t.State == policy.Paused && !t.Over(s.store.Now())
	if err != nil && !already {
		return Receipt{}, s.stateError(t, err)
	}
	_, late := s.settled(ctx, id, func(v *policy.TaskView) bool { return v == nil || v.Revision >= rev })
	floor := s.index.Floor(policy.Scope{Kind: policy.ScopeTask, Name: string(id)}).Cause()
	at := floor.At
	if late != nil || at.IsZero() { // durable all the same; this replica does not know it yet
		at = s.store.Now()
	}
	if !already {
		s.recordTaskAt(ctx, at, t, policy.Active, rev, c.Name, "")
		open.merge(openIn(s.index.Task(id), at)) // and what was granted meanwhile
	}
	return s.receipt(ctx, t, s.enforce(ctx, open, rev, at, wait))
}

// Resume lets a paused task ask for grants again; none comes back. What its own
// agent paused, the agent may resume; anything else only who may resume what is
// the agent's.
func (s *Service) Resume(ctx context.Context, c Caller, id policy.TaskID) (policy.Task, error) {
	v, err := s.actsOn(ctx, c, id, policy.VerbResume)
	if err != nil {
		return policy.Task{}, err
	}
	if sus := s.index.Suspended(v.Task.Agent); sus != nil {
		return policy.Task{}, &SuspendedError{*sus}
	}
	changed := false
	t, rev, err := s.store.ChangeTask(ctx, id, func(t policy.Task) (policy.Task, error) {
		if t.State == policy.Paused && c.Agent != nil && t.PausedBy != c.Name {
			return t, ErrPausedByOther
		}
		l, err := policy.Transition(t.Life, policy.Event{Kind: policy.EventResume}, s.store.Now())
		if err == nil {
			t.Life, t.PausedBy = l, ""
			changed = true
		}
		return t, err
	})
	switch {
	case errors.Is(err, policy.ErrTransition) && t.Live(s.store.Now()):
		return t, nil // it is not paused
	case err != nil:
		return policy.Task{}, s.stateError(t, err)
	}
	if changed {
		s.recordTaskAt(ctx, s.store.Now(), t, policy.Paused, rev, c.Name, "")
	}
	if _, err = s.settled(ctx, id, func(v *policy.TaskView) bool { return v == nil || v.Revision >= rev }); err == nil {
		s.awaitRoom(ctx, t.Instance, rev)
	}
	return t, err
}

// actsOn finds a task that c may change: as the agent within it, or as somebody
// who may do what verb says to what is its agent's.
func (s *Service) actsOn(ctx context.Context, c Caller, id policy.TaskID, verb policy.Verb) (*policy.TaskView, error) {
	if c.Agent != nil {
		if err := asAgent(c); err != nil {
			return nil, err
		}
		v, err := s.view(ctx, id)
		return changeable(c, v, err)
	}
	if !c.MayAny(verb) {
		return nil, ErrOperator
	}
	v, err := s.view(ctx, id)
	return s.permitted(c, verb, v, err)
}

// openIn is the reach of a task: where its grants were open at a moment.
func openIn(v *policy.TaskView, at time.Time) reach {
	r := reach{}
	if v == nil {
		return r
	}
	for _, h := range v.Held {
		if h.Open(at) {
			r.add(h.Grant.Instance, h.Grant.Until)
		}
	}
	return r
}

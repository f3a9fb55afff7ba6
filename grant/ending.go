package grant

import (
	"context"
	"errors"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Ending says how far an ending is. Accepted is when it became durable: from
// then on nothing brings it back. Enforced is when no replica allowed a
// matching call any more, no older check still ran, and the streams were closed.
type Ending struct {
	Accepted time.Time
	// Enforced is zero when that was not confirmed in time.
	Enforced time.Time
	// Bound is when the last stream ends by itself, whoever can be reached;
	// set when Enforced is not.
	Bound time.Time
	// Waiting says what Enforced waits for.
	Waiting Waiting
}

// enforceWait bounds how long a reply to an ending waits for its enforcement.
// Under a partition that takes the staleness bound and the Check timeout.
const enforceWait = 5 * time.Second

// End ends a grant on behalf of its own task. Ending what has ended is not an
// error: the reply says how it ended.
func (s *Service) End(ctx context.Context, c Caller, id policy.GrantID) (Status, Ending, error) {
	if err := asAgent(c); err != nil {
		return Status{}, Ending{}, err
	}
	v, err := s.taskOf(ctx, id)
	if v, err = changeable(c, v, err); err != nil {
		return Status{}, Ending{}, err
	}
	if h := held(v, id); h != nil && h.Grant.State == policy.Pending {
		return s.withdraw(ctx, v, h.Grant, c)
	}
	return s.endOne(ctx, v, id, policy.EndCompleted, c.Name)
}

// withdraw ends a request that people have not decided on, with all its grants.
func (s *Service) withdraw(ctx context.Context, v *policy.TaskView, g policy.Grant, c Caller) (Status, Ending, error) {
	asked, rev, err := s.store.ChangeApproval(ctx, g.Approval, func(asked store.Asked) (store.Asked, error) {
		if s.undecided(asked) != nil {
			return asked, policy.ErrEnded
		}
		return s.closed(asked, policy.ApprovalWithdrawn, policy.EndWithdrawn, c.Name, "")
	})
	if errors.Is(err, policy.ErrEnded) || errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrFull) {
		return s.endOne(ctx, v, g.ID, policy.EndWithdrawn, c.Name) // decided meanwhile, or there is no space for more
	}
	if err != nil {
		return Status{}, Ending{}, hide(err)
	}
	s.recordClosed(ctx, asked, rev, audit.ApprovalWithdrawn)
	for _, ended := range asked.Grants {
		if ended.ID == g.ID {
			g = ended
		}
	}
	return Status{Grant: g}, s.enforce(ctx, g.Instance, rev, accepted(g.Life), accepted(g.Life)), nil
}

// Revoke ends a grant on behalf of whoever may revoke what is its agent's.
func (s *Service) Revoke(ctx context.Context, c Caller, id policy.GrantID) (Status, Ending, error) {
	if !c.MayAny(policy.VerbRevoke) {
		return Status{}, Ending{}, ErrOperator
	}
	v, err := s.taskOf(ctx, id)
	if v, err = s.revocable(c, v, err); err != nil {
		return Status{}, Ending{}, err
	}
	return s.endOne(ctx, v, id, policy.EndRevoked, c.Name)
}

func (s *Service) endOne(ctx context.Context, v *policy.TaskView, id policy.GrantID, why policy.EndReason, by string) (Status, Ending, error) {
	h := held(v, id)
	if h == nil {
		return Status{}, Ending{}, ErrNotFound
	}
	// Ended with its task, it needs no end of its own from here.
	g, rev := h.Grant, v.Revision
	if g.State != policy.Ended {
		var err error
		if g, rev, err = s.endGrant(ctx, g, why, by, ""); err != nil {
			return Status{}, Ending{}, err
		}
	}
	e := s.enforce(ctx, g.Instance, rev, accepted(g.Life), g.Until)
	return Status{Grant: g, Used: h.Use.Used}, e, nil
}

// EndTask ends a task and all its grants, as completed or as failed.
func (s *Service) EndTask(ctx context.Context, c Caller, id policy.TaskID, why policy.EndReason) (Receipt, error) {
	if err := asAgent(c); err != nil {
		return Receipt{}, err
	}
	v, err := s.view(ctx, id)
	if v, err = changeable(c, v, err); err != nil {
		return Receipt{}, err
	}
	return s.endWhole(ctx, v, why, c.Name)
}

// revocable finds a task whose agent c may revoke things of. What c may see and
// not revoke is refused; anything else does not exist.
func (s *Service) revocable(c Caller, v *policy.TaskView, err error) (*policy.TaskView, error) {
	if err != nil {
		return nil, err
	}
	owners := s.ownerOf(v.Task.Agent)
	switch {
	case c.May(policy.VerbRevoke, owners):
		return v, nil
	case c.maySee(v.Task, owners):
		return nil, ErrOperator
	}
	return nil, ErrNotFound
}

// RevokeTask ends a task and all its grants on behalf of whoever may revoke
// what is its agent's.
func (s *Service) RevokeTask(ctx context.Context, c Caller, id policy.TaskID) (Receipt, error) {
	if !c.MayAny(policy.VerbRevoke) {
		return Receipt{}, ErrOperator
	}
	v, err := s.view(ctx, id)
	if v, err = s.revocable(c, v, err); err != nil {
		return Receipt{}, err
	}
	return s.endWhole(ctx, v, policy.EndRevoked, c.Name)
}

func (s *Service) endWhole(ctx context.Context, v *policy.TaskView, why policy.EndReason, by string) (Receipt, error) {
	t, rev, err := s.endTask(ctx, v.Task, why, by, "")
	if err != nil {
		return Receipt{}, err
	}
	e := s.enforce(ctx, t.Instance, rev, accepted(t.Life), lastUntil(v, accepted(t.Life)))
	// An error leaves grants in the receipt that look active; its Ending says more.
	_, _ = s.settled(ctx, t.ID, func(v *policy.TaskView) bool { return v == nil || v.Task.State == policy.Ended })
	s.settleTally(ctx, t.ID)
	return s.receipt(ctx, t, e)
}

// endGrant writes the end of a grant, and gives the revision from which on it
// holds. What had already ended stays as it is.
func (s *Service) endGrant(ctx context.Context, g policy.Grant, why policy.EndReason, by, words string) (policy.Grant, int64, error) {
	from := policy.StateNone
	ended, rev, err := s.store.ChangeGrant(ctx, g.Task, g.ID, func(g policy.Grant) (policy.Grant, error) {
		from = g.State
		l, err := s.end(g.Life, why)
		g.Life = l
		return g, err
	})
	switch {
	case errors.Is(err, policy.ErrEnded):
		return ended, rev, nil
	case errors.Is(err, store.ErrNotFound): // absence means ended
		l, err := s.end(g.Life, why)
		g.Life = l
		return g, s.index.Revision(), ignoreEnded(err)
	case err != nil:
		return g, 0, err
	}
	s.metrics.endings.WithLabelValues("grant", string(ended.End)).Inc()
	s.recordGrant(ctx, ended, from, rev, by, words)
	return ended, rev, nil
}

func ignoreEnded(err error) error {
	if errors.Is(err, policy.ErrEnded) {
		return nil
	}
	return err
}

// endTask writes the end of a task, which is the end of all its grants.
func (s *Service) endTask(ctx context.Context, t policy.Task, why policy.EndReason, by, words string) (policy.Task, int64, error) {
	from := policy.StateNone
	ended, rev, err := s.store.ChangeTask(ctx, t.ID, func(t policy.Task) (policy.Task, error) {
		from = t.State
		l, err := s.end(t.Life, why)
		t.Life = l
		return t, err
	})
	switch {
	case errors.Is(err, policy.ErrEnded):
		return ended, rev, nil
	case err != nil:
		return t, 0, hide(err)
	}
	s.metrics.endings.WithLabelValues("task", string(ended.End)).Inc()
	s.recordTask(ctx, ended, from, rev, by, words)
	return ended, rev, nil
}

// end applies an ending now. What its own time had ended before has expired
// then, whatever is asked for now.
func (s *Service) end(l policy.Life, why policy.EndReason) (policy.Life, error) {
	return policy.Transition(l, policy.End(why), s.store.Now())
}

// enforce waits until an ending at rev holds everywhere, and says how far it
// got. It never fails: the ending is accepted whatever comes.
func (s *Service) enforce(ctx context.Context, i policy.Instance, rev int64, accepted, bound time.Time) Ending {
	e := Ending{Accepted: accepted}
	ctx, cancel := context.WithTimeout(ctx, enforceWait)
	defer cancel()
	e.Waiting = s.cut(ctx, i, rev)
	now := s.store.Now()
	if e.Waiting == WaitDisconnected && !now.Before(bound) {
		e.Waiting = "" // nothing that was open can still be
	}
	if e.Waiting != "" {
		e.Bound = bound
		return e
	}
	e.Enforced = now
	s.metrics.enforced.Observe(now.Sub(accepted).Seconds())
	return e
}

// cut waits until replicas and sidecar have applied everything up to rev.
func (s *Service) cut(ctx context.Context, i policy.Instance, rev int64) Waiting {
	if s.store.AwaitReplicas(ctx, roleAuthz, rev) != nil {
		return WaitReplicas
	}
	connected := false
	_, err := s.store.AwaitInstance(ctx, i, func(a store.InstanceAck, ok bool) bool {
		connected = ok
		return !ok || a.Cut >= rev
	})
	switch {
	case err != nil:
		return WaitSidecar
	case !connected:
		return WaitDisconnected
	}
	return ""
}

// accepted is when an ending became durable.
func accepted(l policy.Life) time.Time { return l.EndedAt }

// lastUntil is when the last stream of a task would end by itself.
func lastUntil(v *policy.TaskView, ended time.Time) time.Time {
	last := ended
	for _, h := range v.Held {
		if h.Grant.Until.After(last) {
			last = h.Grant.Until
		}
	}
	return last
}

// timeOf is when a life last changed.
func timeOf(l policy.Life) time.Time {
	switch {
	case !l.EndedAt.IsZero():
		return l.EndedAt
	case !l.Activated.IsZero():
		return l.Activated
	}
	return l.Began
}

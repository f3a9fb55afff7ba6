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
	// Revision of the store from which on it holds.
	Revision int64
	// Enforced is zero when that was not confirmed in time.
	Enforced time.Time
	// Bound is when the last stream ends by itself, whoever can be reached;
	// set when Enforced is not.
	Bound time.Time
	// Waiting says what Enforced waits for.
	Waiting Waiting
}

// EnforceWait is how long a reply to an ending waits for its enforcement unless
// something else is asked for. Under a partition enforcement takes the staleness
// bound and the Check timeout.
const EnforceWait = 5 * time.Second

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
	return s.endOne(ctx, v, id, cause{why: policy.EndCompleted, by: c.Name})
}

func (s *Service) endOne(ctx context.Context, v *policy.TaskView, id policy.GrantID, why cause) (Status, Ending, error) {
	g, rev, err := s.endHeld(ctx, v, id, why)
	if err != nil {
		return Status{}, Ending{}, err
	}
	return Status{Grant: g, Used: usedOf(v, id)}, s.enforce(ctx, reach{g.Instance: g.Until}, rev, accepted(g.Life), EnforceWait), nil
}

// usedOf is how often a grant of a view was used.
func usedOf(v *policy.TaskView, id policy.GrantID) int64 {
	if h := held(v, id); h != nil {
		return h.Use.Used
	}
	return 0
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
		return s.endOne(ctx, v, g.ID, cause{why: policy.EndWithdrawn, by: c.Name}) // decided meanwhile, or there is no space for more
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
	return Status{Grant: g}, s.enforce(ctx, reach{g.Instance: accepted(g.Life)}, rev, accepted(g.Life), EnforceWait), nil
}

// Revoke ends a grant, and whatever renewed it, on behalf of whoever may revoke
// what is its agent's. The reply waits up to wait for the enforcement.
func (s *Service) Revoke(ctx context.Context, c Caller, id policy.GrantID, wait time.Duration) (Status, Ending, error) {
	if !c.MayAny(policy.VerbRevoke) {
		return Status{}, Ending{}, ErrOperator
	}
	v, err := s.taskOf(ctx, id)
	if v, err = s.permitted(c, policy.VerbRevoke, v, err); err != nil {
		return Status{}, Ending{}, err
	}
	g, rev, err := s.endHeld(ctx, v, id, cause{why: policy.EndRevoked, by: c.Name})
	if err != nil {
		return Status{}, Ending{}, err
	}
	open := reach{g.Instance: g.Until}
	rev, err = s.revokeRenewals(ctx, g, rev, c.Name, open)
	if err != nil {
		return Status{}, Ending{}, err
	}
	return Status{Grant: g, Used: usedOf(v, id)}, s.enforce(ctx, open, rev, accepted(g.Life), wait), nil
}

// endHeld ends a grant of a view, and gives the revision from which on it holds.
func (s *Service) endHeld(ctx context.Context, v *policy.TaskView, id policy.GrantID, c cause) (policy.Grant, int64, error) {
	h := held(v, id)
	if h == nil {
		return policy.Grant{}, 0, ErrNotFound
	}
	if h.Grant.State == policy.Ended { // with its task, it needs no end of its own from here
		return h.Grant, v.Revision, nil
	}
	return s.endGrant(ctx, h, because(h, c))
}

// cause is why something ends, by whom, and when it did if that was before now.
type cause struct {
	why       policy.EndReason
	by, words string
	at        time.Time
}

// because is the cause of a grant's end: a floor that had ended it before c did,
// whoever writes that down, else c.
func because(h *policy.Held, c cause) cause {
	if f, ok := h.RaisedBy(); ok && (c.at.IsZero() || !f.At.IsZero() && f.At.Before(c.at)) {
		return cause{why: f.Reason, by: f.By, at: f.At, words: "with all of its scope"}
	}
	return c
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
	return s.endWhole(ctx, v, why, c.Name, EnforceWait)
}

// permitted finds a task to whose agent c may do what verb says. What c may see
// and not change is refused; anything else does not exist.
func (s *Service) permitted(c Caller, verb policy.Verb, v *policy.TaskView, err error) (*policy.TaskView, error) {
	if err != nil {
		return nil, err
	}
	owners := s.ownerOf(v.Task.Agent)
	switch {
	case c.May(verb, owners):
		return v, nil
	case c.maySee(v.Task, owners):
		return nil, ErrOperator
	}
	return nil, ErrNotFound
}

// RevokeTask ends a task and all its grants on behalf of whoever may revoke
// what is its agent's.
func (s *Service) RevokeTask(ctx context.Context, c Caller, id policy.TaskID, wait time.Duration) (Receipt, error) {
	if !c.MayAny(policy.VerbRevoke) {
		return Receipt{}, ErrOperator
	}
	v, err := s.view(ctx, id)
	if v, err = s.permitted(c, policy.VerbRevoke, v, err); err != nil {
		return Receipt{}, err
	}
	return s.endWhole(ctx, v, policy.EndRevoked, c.Name, wait)
}

func (s *Service) endWhole(
	ctx context.Context, v *policy.TaskView, why policy.EndReason, by string, wait time.Duration,
) (Receipt, error) {
	t, rev, err := s.endTask(ctx, v.Task, cause{why: why, by: by})
	if err != nil {
		return Receipt{}, err
	}
	at := accepted(t.Life)
	e := s.enforce(ctx, reach{t.Instance: lastUntil(v, at)}, rev, at, wait)
	// An error leaves grants in the receipt that look active; its Ending says more.
	_, _ = s.settled(ctx, t.ID, func(v *policy.TaskView) bool { return v == nil || v.Task.State == policy.Ended })
	s.settleTally(ctx, t.ID)
	return s.receipt(ctx, t, e)
}

// endGrant writes the end of a grant, and gives the revision from which on it
// holds. What had already ended stays as it is.
func (s *Service) endGrant(ctx context.Context, h *policy.Held, c cause) (policy.Grant, int64, error) {
	from, g := policy.StateNone, h.Grant
	ended, rev, err := s.store.ChangeGrant(ctx, g.Task, g.ID, func(g policy.Grant) (policy.Grant, error) {
		from = g.State
		l, err := s.end(g.Life, c)
		g.Life = l
		return g, err
	})
	switch {
	case errors.Is(err, policy.ErrEnded):
		return ended, rev, nil
	case errors.Is(err, store.ErrNotFound): // absence means ended
		l, err := s.end(g.Life, c)
		g.Life = l
		return g, s.index.Revision(), ignoreEnded(err)
	case err != nil:
		return g, 0, err
	}
	s.metrics.endings.WithLabelValues("grant", string(ended.End)).Inc()
	s.recordGrant(ctx, ended, from, rev, c.by, c.words)
	return ended, rev, nil
}

func ignoreEnded(err error) error {
	if errors.Is(err, policy.ErrEnded) {
		return nil
	}
	return err
}

// endTask writes the end of a task, which is the end of all its grants.
func (s *Service) endTask(ctx context.Context, t policy.Task, c cause) (policy.Task, int64, error) {
	from := policy.StateNone
	ended, rev, err := s.store.ChangeTask(ctx, t.ID, func(t policy.Task) (policy.Task, error) {
		from = t.State
		l, err := s.end(t.Life, c)
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
	s.recordTask(ctx, ended, from, rev, c.by, c.words)
	return ended, rev, nil
}

// end applies an ending now, or when it was. What its own time had ended before
// has expired then, whatever is asked for now.
func (s *Service) end(l policy.Life, c cause) (policy.Life, error) {
	at := c.at
	if at.IsZero() {
		at = s.store.Now()
	}
	return policy.Transition(l, policy.End(c.why), at)
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

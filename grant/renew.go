package grant

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Renew asks for a successor of a grant: the same capability with the same
// parameters, decided on anew by what is in force now, with a credential of its
// own. The old grant goes on to its own end, and what is open under it ends with
// it. What has ended cannot be renewed.
func (s *Service) Renew(ctx context.Context, c Caller, id policy.GrantID, ttl, wait time.Duration) (Status, error) {
	if err := asAgent(c); err != nil {
		return Status{}, err
	}
	v, err := s.taskOf(ctx, id)
	if v, err = changeable(c, v, err); err != nil {
		return Status{}, err
	}
	h := held(v, id)
	if h == nil {
		return Status{}, ErrNotFound
	}
	r := Request{Task: v.Task.ID, Capability: h.Grant.Capability, Params: h.Grant.Params, TTL: ttl, MaxUses: h.Grant.MaxUses, renews: id}
	return s.Request(ctx, c, r, wait)
}

// renewable finds the grant that r renews, if it renews one: it must be active.
func (s *Service) renewable(v *policy.TaskView, r Request) error {
	if r.renews == "" {
		return nil
	}
	if h := held(v, r.renews); !s.usable(h) || h.Resolved == nil {
		return ErrGrantEnded
	}
	return nil
}

// revokeRenewals ends what renewed a grant that ended at rev, and what renewed
// that: who revokes a grant means what its holder may do, not one period of it.
// A renewal compares that what it renews is active, so none comes after rev, and
// the index shows all that came before. It gives the revision of the last end,
// and adds to open where they were.
func (s *Service) revokeRenewals(ctx context.Context, g policy.Grant, rev int64, by string, open reach) (int64, error) {
	v, err := s.settled(ctx, g.Task, func(v *policy.TaskView) bool { return v == nil || v.Revision >= rev })
	if err != nil {
		return rev, err
	}
	for _, h := range renewalsOf(v, g.ID) {
		if h.Grant.State == policy.Ended {
			continue
		}
		_, at, err := s.endGrant(ctx, h, because(h, cause{why: policy.EndRevoked, by: by, words: "with what it renewed"}))
		if err = ignoreGone(err); err != nil {
			return rev, err
		}
		rev = max(rev, at)
		open.add(h.Grant.Instance, h.Grant.Until)
	}
	return rev, nil
}

// renewalsOf lists a grant's successors, one after the other.
func renewalsOf(v *policy.TaskView, id policy.GrantID) []*policy.Held {
	var list []*policy.Held
	if v == nil {
		return nil
	}
	of := map[policy.GrantID]bool{id: true}
	for found := true; found; {
		found = false
		for _, h := range v.Held {
			if of[h.Grant.Renews] && !of[h.Grant.ID] {
				of[h.Grant.ID], found = true, true
				list = append(list, h)
			}
		}
	}
	return list
}

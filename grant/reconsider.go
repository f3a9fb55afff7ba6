package grant

import (
	"context"
	"errors"
	"slices"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// reconsidered evaluates a request again when the catalog is another than it was
// evaluated under. Where its meaning is the same the votes stay; otherwise anew
// is true, and it has the new meaning and no votes, or has ended when that may
// not be any more. It only reads, and changes the copy that it was given.
func (s *Service) reconsidered(ctx context.Context, asked store.Asked) (next store.Asked, anew bool, err error) {
	cat := s.index.Catalog()
	a := &asked.Approval
	if cat == nil {
		return asked, false, ErrNoCatalog
	}
	if cat.Revision() == a.Catalog {
		return asked, false, nil
	}
	v := s.index.Task(a.Task)
	if v == nil {
		return asked, false, ErrNotFound
	}
	ps, err := s.proposeAgain(ctx, cat, v, a)
	var refused *policy.RequestError
	switch {
	case errors.As(err, &refused) && (refused.Code == policy.CodeContextChanged || refused.Code == policy.CodeUnknownAgent):
		next, err := s.closed(asked, policy.ApprovalContextChanged, policy.EndContextChanged, byService, refused.Message)
		return next, true, err
	case errors.As(err, &refused):
		next, err := s.closed(asked, policy.ApprovalPolicyChanged, policy.EndPolicyChanged, byService, refused.Message)
		return next, true, err
	case err != nil:
		return asked, false, err
	}
	rule := ruleOf(ps)
	if rule == nil {
		// What nobody is asked for any more is not given because people were
		// asked once: the agent asks again.
		next, err := s.closed(asked, policy.ApprovalPolicyChanged, policy.EndPolicyChanged, byService, "The catalog no longer asks for approval; ask again.")
		return next, true, err
	}
	was := a.Digest()
	take(a, ps, *rule, cat.Revision())
	if a.Digest() == was {
		return asked, false, nil
	}
	for i := range asked.Grants {
		g := &asked.Grants[i]
		g.Owner, g.Digest, g.Catalog, g.MaxUses = ps[i].grant.Owner, ps[i].grant.Digest, cat.Revision(), ps[i].grant.MaxUses
	}
	a.Round++
	a.Votes = nil
	return asked, true, nil
}

// take gives a request the meaning that its proposals have.
func take(a *policy.Approval, ps []proposal, rule policy.ApprovalRule, catalog string) {
	a.Owner, a.Rule, a.Catalog = ps[0].grant.Owner, rule, catalog
	a.Items, a.Why = make([]policy.ApprovalItem, 0, len(ps)), nil
	for _, p := range ps {
		a.Items, a.Why = append(a.Items, p.item()), append(a.Why, p.why...)
	}
}

// proposeAgain decides on each item as if it were asked for now.
func (s *Service) proposeAgain(ctx context.Context, cat *policy.Catalog, v *policy.TaskView, a *policy.Approval) ([]proposal, error) {
	var ps []proposal
	for _, i := range a.Items {
		p, err := s.decide(ctx, cat, v, Request{Task: a.Task, Capability: i.Capability, Params: i.Params, TTL: i.TTL, MaxUses: i.MaxUses}, new(history))
		if err != nil {
			return nil, err
		}
		p.grant.ID = i.Grant
		ps = append(ps, p)
	}
	return ps, nil
}

// reconsider evaluates a request again now; for the sweeper, when the catalog
// changed.
func (s *Service) reconsider(ctx context.Context, id policy.ApprovalID) error {
	restarted := false
	asked, rev, err := s.store.ChangeApproval(ctx, id, func(asked store.Asked) (store.Asked, error) {
		restarted = false
		if s.stateOf(asked) != policy.Pending.String() {
			return asked, nil
		}
		next, anew, err := s.reconsidered(ctx, asked)
		restarted = anew
		return next, err
	})
	if err == nil && restarted {
		s.recordRestart(ctx, asked, rev)
	}
	return err
}

// recordRestart puts on record what another catalog made of a request.
func (s *Service) recordRestart(ctx context.Context, asked store.Asked, rev int64) {
	if asked.Approval.Outcome != "" {
		s.recordClosed(ctx, asked, rev, audit.ApprovalEnded)
		return
	}
	s.recordApproval(ctx, asked.Approval, audit.ApprovalRestarted, byService, "The catalog gives it another meaning.")
}

// siblingEnd is why another grant of the same request ended before it was ever
// active: they become active together or not at all.
func siblingEnd(v *policy.TaskView, h *policy.Held) (policy.EndReason, bool) {
	if h.Grant.State != policy.Pending || h.Grant.Approval == "" {
		return "", false
	}
	i := slices.IndexFunc(v.Held, func(o *policy.Held) bool {
		return o.Grant.Approval == h.Grant.Approval && o.Grant.State == policy.Ended && o.Grant.Activated.IsZero()
	})
	if i < 0 {
		return "", false
	}
	return v.Held[i].Grant.End, true
}

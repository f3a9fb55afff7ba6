package grant

import (
	"context"
	"errors"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// MaxComment bounds what a person may say, in bytes.
const MaxComment = 1024

// Ballot is what a person says of a request. Its voter is the caller.
type Ballot = policy.Vote

// ErrRestarted: the catalog gives the request another meaning by now, so that
// approvals have started over.
var ErrRestarted = errors.New("the request changed with the catalog, and approvals start over")

// Approve adds the caller's yes, by digest, to a request; the last that is
// needed makes its grants active. Errors are *policy.VoteError, ErrRestarted,
// ErrNotFound and those of the store.
func (s *Service) Approve(ctx context.Context, c Caller, id policy.ApprovalID, b Ballot) (Approval, error) {
	if err := checkComment(b.Comment); err != nil {
		return Approval{}, err
	}
	if _, err := s.asked(ctx, c, id); err != nil {
		return Approval{}, err
	}
	b.Voter = c.voter()
	// What is set in the function is that of its last run, the one that counts.
	var now []store.Asked
	restarted := false
	asked, rev, err := s.store.ChangeApproval(ctx, id, func(asked store.Asked) (store.Asked, error) {
		now, restarted = nil, false
		if err := s.undecided(asked); err != nil {
			return asked, err
		}
		next, anew, err := s.reconsidered(ctx, asked)
		if err != nil || anew {
			restarted = anew
			return next, err
		}
		if next.Approval, err = next.Approval.Approve(s.index.Catalog(), b, s.store.Now()); err != nil {
			return asked, err
		}
		now = []store.Asked{asked}
		if next.Approval.Met() {
			return s.activated(ctx, next)
		}
		return next, nil
	})
	if err != nil {
		return Approval{}, hide(err)
	}
	if restarted {
		s.recordRestart(ctx, asked, rev)
		return Approval{}, ErrRestarted
	}
	s.recordVote(ctx, now[0], asked, rev, c.Name, b.Comment)
	return s.decidedOn(ctx, c, asked), nil
}

// undecided says that nothing can be decided any more, when so.
func (s *Service) undecided(asked store.Asked) error {
	if state := s.stateOf(asked); state != policy.Pending.String() {
		return &policy.VoteError{Code: policy.CodeDecided, Message: "This request is " + state + " already; nothing is left to decide."}
	}
	return nil
}

// activated makes every grant of a request active, as its approvers together
// narrowed it. Its time runs from now.
func (s *Service) activated(ctx context.Context, asked store.Asked) (store.Asked, error) {
	now, cat := s.store.Now(), s.index.Catalog()
	v := s.index.Task(asked.Approval.Task)
	if v == nil {
		return asked, ErrEnded
	}
	for i, item := range asked.Approval.Items {
		g := &asked.Grants[i]
		narrowed := asked.Approval.Narrowed(item)
		life, err := activeLife(g.Life, narrowed.TTL, v.Task, now)
		if err != nil {
			return asked, err
		}
		g.Life, g.Catalog, g.MaxUses = life, cat.Revision(), narrowed.MaxUses
		if err := s.noteHeld(ctx, cat, *g); err != nil {
			return asked, err
		}
	}
	a := &asked.Approval
	a.Outcome, a.DecidedAt, a.By = policy.ApprovalApproved, now, approvers(*a)
	return asked, nil
}

// Refuse ends a request with a reason, on behalf of someone who could approve it
// or of the operator. A digest that is given must be the request's.
func (s *Service) Refuse(ctx context.Context, c Caller, id policy.ApprovalID, b Ballot) (Approval, error) {
	if b.Comment == "" {
		return Approval{}, invalid("comment", "why it is refused")
	}
	if err := checkComment(b.Comment); err != nil {
		return Approval{}, err
	}
	if _, err := s.asked(ctx, c, id); err != nil {
		return Approval{}, err
	}
	asked, rev, err := s.store.ChangeApproval(ctx, id, func(asked store.Asked) (store.Asked, error) {
		a := &asked.Approval
		if err := s.mayRefuse(c, a); err != nil {
			return asked, err
		}
		if err := s.undecided(asked); err != nil {
			return asked, err
		}
		if b.Digest != "" && b.Digest != a.Digest() {
			return asked, &policy.VoteError{Code: policy.CodeDigest, Message: "The digest is not that of the request as it is now; look at it again."}
		}
		return s.closed(asked, policy.ApprovalRefused, policy.EndRefused, c.Name, b.Comment)
	})
	if err != nil {
		return Approval{}, hide(err)
	}
	s.recordClosed(ctx, asked, rev, audit.ApprovalRefused)
	return s.decidedOn(ctx, c, asked), nil
}

// mayRefuse: saying no needs no step-up, and the operator may end anything.
func (s *Service) mayRefuse(c Caller, a *policy.Approval) error {
	if c.Operator {
		return nil
	}
	err := a.MayVote(s.index.Catalog(), c.voter(), s.store.Now())
	if err == nil || err.Code == policy.CodeStepUp {
		return nil
	}
	return err
}

// closed ends a request and its grants.
func (s *Service) closed(asked store.Asked, how policy.ApprovalOutcome, why policy.EndReason, by, comment string) (store.Asked, error) {
	for i := range asked.Grants {
		g := &asked.Grants[i]
		if g.State != policy.Pending {
			continue
		}
		l, err := s.end(g.Life, why)
		if err != nil {
			return asked, err
		}
		g.Life = l
	}
	a := &asked.Approval
	a.Outcome, a.DecidedAt, a.By, a.Comment = how, s.store.Now(), by, comment
	return asked, nil
}

// decidedOn shows a request after a decision, once the index knows of it.
func (s *Service) decidedOn(ctx context.Context, c Caller, asked store.Asked) Approval {
	_, _ = s.settled(ctx, asked.Approval.Task, func(v *policy.TaskView) bool { // late, it shows a moment ago
		h := held(v, asked.Grants[0].ID)
		return v == nil || h == nil || h.Grant.State == asked.Grants[0].State
	})
	return s.show(c, asked)
}

func checkComment(text string) error {
	switch {
	case len(text) > MaxComment:
		return tooLong("comment", MaxComment)
	case !isText(text):
		return invalid("comment", "text without control characters")
	}
	return nil
}

// recordVote puts a yes on record, and what it made active.
func (s *Service) recordVote(ctx context.Context, before, after store.Asked, rev int64, by, comment string) {
	s.recordApproval(ctx, after.Approval, audit.ApprovalApproved, by, comment)
	for i, g := range after.Grants {
		if g.State == policy.Active && before.Grants[i].State == policy.Pending {
			s.recordGrant(ctx, g, policy.Pending, rev, approvers(after.Approval), "approved as "+string(g.Approval))
		}
	}
}

// recordClosed puts the end of a request and its grants on record.
func (s *Service) recordClosed(ctx context.Context, asked store.Asked, rev int64, what audit.ApprovalAction) {
	a := asked.Approval
	s.recordApproval(ctx, a, what, a.By, a.Comment)
	for _, g := range asked.Grants {
		if g.State == policy.Ended {
			s.metrics.endings.WithLabelValues("grant", string(g.End)).Inc()
			s.recordGrant(ctx, g, policy.Pending, rev, a.By, a.Comment)
		}
	}
}

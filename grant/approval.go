package grant

import (
	"context"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Approval is a request that people decide on, as they see it.
type Approval struct {
	policy.Approval
	// State is pending, or how it ended: an outcome, or the end reason of its
	// grants.
	State string
	// Grants are as they are now, in the order of Items.
	Grants []policy.Grant
	// Adds lists, per item, the calls that no active grant of the task opens yet.
	Adds [][]string
	// Holds are the task's active grants.
	Holds []Holding
	// Mine says why the caller may not approve it; nil when they may, or are no
	// person.
	Mine *policy.VoteError
}

// Holding is an active grant and what it opens.
type Holding struct {
	Grant policy.Grant
	Calls []string
}

// Pending reports whether people can still decide.
func (a Approval) Pending() bool { return a.State == policy.Pending.String() }

// stateOf says where a request is. What people decided is on it; anything else
// is told by its grants, which end together.
func (s *Service) stateOf(asked store.Asked) string {
	if asked.Approval.Outcome != "" {
		return string(asked.Approval.Outcome)
	}
	now := s.store.Now()
	for _, g := range asked.Grants {
		if g.State == policy.StateNone {
			return string(policy.EndRevoked) // absence means ended
		}
		if h := held(s.index.Task(g.Task), g.ID); h != nil && h.Grant.State == policy.Ended {
			g = h.Grant // with its task's end, and what a floor did
		} else if h != nil && h.Raised() {
			return string(policy.EndRevoked)
		}
		if g.State == policy.Ended {
			return string(g.End)
		}
		if g.Over(now) {
			return string(policy.EndRequestExpired)
		}
	}
	return policy.Pending.String()
}

// Approval reads a request. One that the caller may not view does not exist.
func (s *Service) Approval(ctx context.Context, c Caller, id policy.ApprovalID) (Approval, error) {
	asked, err := s.asked(ctx, c, id)
	if err != nil {
		return Approval{}, err
	}
	return s.show(c, asked), nil
}

func (s *Service) asked(ctx context.Context, c Caller, id policy.ApprovalID) (store.Asked, error) {
	if !id.Valid() {
		return store.Asked{}, ErrNotFound
	}
	asked, err := s.store.GetApproval(ctx, id)
	if err != nil {
		return store.Asked{}, hide(err)
	}
	if !s.mayView(c, asked.Approval) {
		return store.Asked{}, ErrNotFound
	}
	return asked, nil
}

// mayView is about the agent's owners of now, and when the agent is gone about
// those that it had.
func (s *Service) mayView(c Caller, a policy.Approval) bool {
	owners := s.ownerOf(a.Agent)
	if owners == nil {
		owners = a.Owner
	}
	return c.May(policy.VerbView, owners)
}

// Approvals lists requests that the caller may view, the oldest first: those
// that wait for people, or all of them.
func (s *Service) Approvals(ctx context.Context, c Caller, all bool) ([]Approval, error) {
	var ids []policy.ApprovalID
	s.index.EachApproval(func(id policy.ApprovalID, v *policy.TaskView) bool {
		if c.May(policy.VerbView, s.ownerOf(v.Task.Agent)) && (all || s.waits(id, v)) {
			ids = append(ids, id)
		}
		return true
	})
	slices.Sort(ids) // ULIDs: by time
	out := make([]Approval, 0, len(ids))
	for _, id := range ids[:min(len(ids), maxListed)] {
		a, err := s.Approval(ctx, c, id)
		switch {
		case err == nil && (all || a.Pending()):
			out = append(out, a)
		case err != nil && ignoreGone(err) != nil:
			return nil, err
		}
	}
	return out, nil
}

// maxListed bounds one answer.
const maxListed = 500

// waits reports whether a grant of the request is pending.
func (s *Service) waits(id policy.ApprovalID, v *policy.TaskView) bool {
	return slices.ContainsFunc(v.Held, func(h *policy.Held) bool {
		return h.Grant.Approval == id && effective(h, s.store.Now()).State == policy.Pending
	})
}

// show adds what a request means today.
func (s *Service) show(c Caller, asked store.Asked) Approval {
	out := Approval{Approval: asked.Approval, Grants: asked.Grants, State: s.stateOf(asked)}
	opened := map[string]bool{}
	now := s.store.Now()
	if v := s.index.Task(asked.Approval.Task); v != nil {
		for _, h := range v.Held {
			if !s.usable(h) || h.Grant.Approval == asked.Approval.ID || h.Resolved == nil {
				continue
			}
			calls := h.Resolved.Calls()
			out.Holds = append(out.Holds, Holding{h.Grant, calls})
			for _, call := range calls {
				opened[call] = true
			}
		}
	}
	for _, i := range asked.Approval.Items {
		adds := slices.DeleteFunc(slices.Clone(i.Calls), func(call string) bool { return opened[call] })
		out.Adds = append(out.Adds, adds)
	}
	if c.Person != nil && out.Pending() {
		out.Mine = asked.Approval.MayVote(s.index.Catalog(), c.voter(), now)
	}
	return out
}

// approvers names those who approved, for records and for the agent.
func approvers(a policy.Approval) string {
	names := make([]string, 0, len(a.Votes))
	for _, v := range a.Votes {
		names = append(names, policy.PersonName(v.Issuer, v.Subject))
	}
	return strings.Join(names, ", ")
}

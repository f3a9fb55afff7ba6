package grant

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// MaxPending bounds the grants of one task that wait for people at once: whoever
// decides must be able to read it all.
const MaxPending = 32

// ruleOf is what people must approve of several grants as one; nil when none of
// them asks for it.
func ruleOf(ps []proposal) (rule *policy.ApprovalRule) {
	for _, p := range ps {
		rule = rule.Join(p.rule)
	}
	return rule
}

// ask writes a request for people to decide on, and its grants as pending.
func (s *Service) ask(ctx context.Context, seen int64, v *policy.TaskView, ps []proposal, rule *policy.ApprovalRule, c Caller) ([]policy.Grant, error) {
	now := s.store.Now()
	if pending(v, now)+len(ps) > MaxPending {
		return nil, ErrTooMany
	}
	t := v.Task
	a := policy.Approval{
		ID: policy.ApprovalID(newID("a_")), Task: t.ID, Agent: t.Agent, Owner: ps[0].grant.Owner, Instance: t.Instance,
		RequestedBy: c.Name, StartedBy: t.StartedBy, Type: t.Type, Purpose: t.Purpose, Context: t.Context,
		Requested: now, Expires: earlier(now.Add(rule.ExpiresAfter), t.Until), Rule: *rule,
		Catalog: ps[0].grant.Catalog, Round: 1,
	}
	gs := make([]policy.Grant, 0, len(ps))
	for _, p := range ps {
		p.grant.Approval, p.grant.Life = a.ID, policy.Begin(now, a.Expires)
		gs = append(gs, p.grant)
		a.Items, a.Why = append(a.Items, p.item()), append(a.Why, p.why...)
	}
	rev, err := s.store.CreatePending(ctx, seen, a, gs...)
	if err != nil {
		return nil, err
	}
	for _, g := range gs {
		s.recordGrant(ctx, g, policy.StateNone, rev, c.Name, "")
	}
	s.recordApproval(ctx, a, audit.ApprovalRequested, c.Name, "")
	return gs, nil
}

// item is the grant as people are asked for it.
func (p proposal) item() policy.ApprovalItem {
	r := p.resolved
	i := policy.ApprovalItem{
		Grant: p.grant.ID, Capability: r.Capability.Name, Description: r.Capability.Description,
		Risk: string(r.Capability.Risk), Sensitivity: string(r.Capability.Sensitivity), Params: r.Params,
		Destination: r.Destination.Name, Calls: r.Calls(), Scope: r.Scope, TTL: p.ttl, MaxUses: p.grant.MaxUses, Digest: r.Digest,
	}
	if r.Provider != nil {
		i.Provider = r.Provider.Name
	}
	return i
}

func pending(v *policy.TaskView, now time.Time) int {
	n := 0
	for _, h := range v.Held {
		if h.Grant.State == policy.Pending && !h.Grant.Over(now) {
			n++
		}
	}
	return n
}

// recordApproval puts on record what happened to a request.
func (s *Service) recordApproval(ctx context.Context, a policy.Approval, what audit.ApprovalAction, by, why string) {
	e := audit.ApprovalEvent{
		Time: s.store.Now(), Approval: a.ID, Action: what, By: by, Why: why, Digest: a.Digest(), Catalog: a.Catalog,
		Given: a.Given(), Wanted: a.Rule.Count,
		Subject: audit.Subject{Agent: a.Agent, Owner: a.Owner, Instance: a.Instance, Task: a.Task},
	}
	if len(a.Items) == 1 {
		i := a.Items[0]
		e.Grant, e.Capability, e.Destination = i.Grant, i.Capability, i.Destination
	}
	s.audit.Approval(ctx, e)
}

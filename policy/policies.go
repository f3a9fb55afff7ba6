package policy

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/policy/rego"
)

// policies compiles the Rego modules of the set.
func (c *compiler) policies() {
	modules := make([]rego.Module, len(c.set.Policies))
	for i, m := range c.set.Policies {
		modules[i] = rego.Module{Path: m.Path, Source: m.Source}
	}
	engine, problems := rego.Compile(modules)
	for _, p := range problems {
		c.problems = append(c.problems, Problem{Kind: "Policy", Name: p.Path, Line: p.Line, Message: p.Message})
	}
	c.cat.rego = engine
}

// Policies are the Rego policies of the catalog; nil, which has no say, for a
// nil catalog.
func (c *Catalog) Policies() *rego.Engine {
	if c == nil {
		return nil
	}
	return c.rego
}

// Ask is one request for a grant, resolved, with what exeat.issue may know of it.
type Ask struct {
	Agent    *Agent
	Task     *Task
	Resolved *Resolved
	// TTL that the grant would have, MaxUses that it would permit (0: no bound).
	TTL     time.Duration
	MaxUses int64
	// Envelope of the task; Chain of agents that delegated it; Approvers of
	// exactly this request. Any may be empty.
	Envelope, Chain, Approvers []string
	History                    rego.IssueHistory
}

// Judge asks exeat.issue about a request at now. It is pure, but that it ends
// with ctx. Without that package the catalog alone decides.
func (c *Catalog) Judge(ctx context.Context, a Ask, now time.Time) rego.Issued {
	if !c.Policies().HasIssue() {
		return rego.Issued{Verdict: rego.Verdict{Allowed: true}}
	}
	return c.rego.Issue(ctx, a.Input(now))
}

// Input is what exeat.issue sees of the request at now.
func (a Ask) Input(now time.Time) rego.IssueInput {
	p := a.Resolved.Capability
	return rego.IssueInput{
		Agent: a.Agent.rego(), Capability: p.Name, Destination: a.Resolved.Destination.Name, Params: a.Resolved.Params,
		Risk: string(p.Risk), Sensitivity: string(p.Sensitivity), TTL: a.TTL, MaxUses: a.MaxUses,
		Task: string(a.Task.ID), TaskType: a.Task.Type, TaskBegan: a.Task.Began,
		Purpose: a.Task.Purpose, Context: a.Task.Context, StartedBy: a.Task.StartedBy,
		Envelope: a.Envelope, Chain: a.Chain, Approvers: a.Approvers, Time: now, History: a.History,
	}
}

// rego is the agent as policies see it.
func (a *Agent) rego() rego.Agent {
	return rego.Agent{Name: a.Name, SPIFFEID: a.SPIFFEID, OwnerGroups: a.OwnerGroups, Contact: a.Contact, Environment: a.Environment}
}

package proxy

import (
	"context"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// Touches makes durable what tasks reach, before they do. *store.Store is one.
type Touches interface {
	// Touch returns once every authz replica judges by it. No check may be
	// counted as running on behalf of the caller meanwhile.
	Touch(ctx context.Context, task policy.TaskID, t policy.Touch) (made bool, err error)
}

// Tallies says what a task has done. *audit.Log is one.
type Tallies interface {
	Tally(task policy.TaskID) audit.Tally
}

// consult asks the policies about a call that a grant covers. Without an
// exeat.call package it costs nothing.
func (s *Server) consult(ctx context.Context, c *check, d *policy.Decision, view *policy.TaskView) {
	if !c.catalog.Policies().HasCall() {
		return
	}
	facts := policy.CallFacts{Agent: c.agent, View: view, Held: d.Held, Own: c.own}
	if s.tallies != nil && c.catalog.Policies().CallUses("history", "bytesOut") {
		facts.BytesOut = s.tallies.Tally(view.Task.ID).Sent
	}
	if denied := c.catalog.JudgeCall(ctx, facts, &c.call, c.now); denied != nil {
		d.Reason, d.Policy = policy.PolicyDenied, denied
	}
}

// untouched is what an allowed call reaches and its task has not reached yet;
// nil when no policy asks for that.
func (c *check) untouched() *policy.Touch {
	if !c.decision.Allowed() || !c.catalog.Policies().HasCall() || !c.catalog.Policies().CallUses("history") {
		return nil
	}
	t := policy.TouchOf(c.decision.Held)
	if c.view.Touched(t) {
		return nil
	}
	return &t
}

// touch makes durable that the call's task reaches t. If this call was the one
// to do so, t is no part of what came before it.
func (s *Server) touch(ctx context.Context, c *check, t policy.Touch) bool {
	if s.touches == nil {
		return false
	}
	made, err := s.touches.Touch(ctx, c.view.Task.ID, t)
	if err != nil {
		s.log.WarnContext(ctx, "what a task reaches could not be made durable", "decision", c.id, "error", err)
		return false
	}
	if made {
		c.own = &t
	}
	return true
}

// stillConsents asks again if what the policies were asked about has changed
// since, or they have.
func (s *Server) stillConsents(ctx context.Context, c *check, view *policy.TaskView, held *policy.Held) bool {
	cat := s.index.Catalog()
	if view == c.view && cat == c.catalog {
		return true
	}
	if !cat.Policies().HasCall() {
		return true // what the rules say was looked at already
	}
	agent, ok := cat.Agent(c.agent.Name)
	if !ok {
		return false
	}
	again := *c
	again.catalog, again.agent = cat, agent
	d := policy.Decision{Reason: policy.Allowed, Held: held}
	s.consult(ctx, &again, &d, view)
	c.decision.Policy = d.Policy
	return d.Allowed()
}

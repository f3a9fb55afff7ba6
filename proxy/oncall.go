package proxy

import (
	"context"
	"log/slog"

	"github.com/exeat-dev/exeat/policy"
)

// Requester asks for the grant that a call asks for by being made, for the
// task's own agent, and returns once the call can be made under it. It goes the
// way of any other request, policies included. grant.Service is one.
type Requester interface {
	RequestOnCall(ctx context.Context, task policy.TaskID, n policy.Next) error
}

// onCall is what a denied call may ask for; once a check, and only within a
// task, whose room says which.
func (s *Server) onCall(c *check) (policy.Next, bool) {
	if s.requester == nil || c.asked || c.view == nil || c.decision.Reason != policy.NoGrant &&
		c.decision.Reason != policy.CallNotGranted && c.decision.Reason != policy.GrantExpired && c.decision.Reason != policy.GrantEnded {
		return policy.Next{}, false
	}
	if !c.view.Task.Live(c.now) {
		return policy.Next{}, false
	}
	return c.catalog.OnCall(c.agent, c.view, &c.call)
}

// request asks. Whatever comes of it, the call is judged again by what there is
// then: it needs no other answer than that.
func (s *Server) request(ctx context.Context, c *check, n policy.Next) bool {
	c.asked = true
	if err := s.requester.RequestOnCall(ctx, c.view.Task.ID, n); err != nil {
		s.log.LogAttrs(ctx, slog.LevelInfo, "a call's own request came to nothing",
			slog.String("decision", c.id), slog.String("capability", n.Capability), slog.Any("error", err))
	}
	return ctx.Err() == nil
}

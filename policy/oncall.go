package policy

import (
	"maps"
	"slices"
)

// OnCall finds the capability that a call asks for by being made: one that the
// agent is eligible for, that says onCall, and all of whose parameters the call
// gives. False when there is none, or when a grant of the same in this task was
// taken back: what was taken back does not return by itself.
func (c *Catalog) OnCall(agent *Agent, view *TaskView, call *Call) (Next, bool) {
	if view == nil || call == nil || call.GrantID != "" || len(agent.OnCallDestinations()) == 0 {
		return Next{}, false
	}
	found := c.suggestions(agent, call, func(p *Capability) bool { return p.OnCall })
	i := slices.IndexFunc(found, func(s suggestion) bool {
		p, ok := c.Capability(s.capability)
		return ok && len(s.values) == len(p.params) && !view.barred(s, call)
	})
	if i < 0 {
		return Next{}, false
	}
	return found[i].next(), true
}

// barred reports whether the task held what s is and does not hold it any more
// for a reason that its agent had no part in; or holds it and may not use it. A
// grant that was used up stays so: to ask again would be a use more.
func (v *TaskView) barred(s suggestion, call *Call) bool {
	return slices.ContainsFunc(v.Held, func(h *Held) bool {
		g := &h.Grant
		if g.Capability != s.capability || !maps.Equal(g.Params, s.values) {
			return false
		}
		if h.spent(call) {
			return true
		}
		if g.State != Ended {
			return h.Raised() || g.State != Active
		}
		return g.End != EndExpired && g.End != EndCompleted
	})
}

// OnCallDestinations lists the destinations for which the agent may get a grant
// by its first call, each once, in order of the capabilities' names.
func (a *Agent) OnCallDestinations() []*Destination {
	if a == nil {
		return nil
	}
	return a.onCall
}

// noteOnCall keeps what OnCallDestinations gives.
func (a *Agent) noteOnCall() {
	for _, e := range a.eligible {
		if d := e.Capability.Destination; e.Capability.OnCall && d != nil && !slices.Contains(a.onCall, d) {
			a.onCall = append(a.onCall, d)
		}
	}
}

package policy

import (
	"cmp"
	"maps"
	"slices"
)

// OnCall finds the capability that a call asks for by being made: one that the
// agent is eligible for, that says onCall, and all of whose parameters the call
// gives. False when there is none, or when a grant of the same in this task was
// taken back: what was taken back does not return by itself.
func (c *Catalog) OnCall(agent *Agent, view *TaskView, call *Call) (Next, bool) {
	if agent == nil || view == nil || call == nil || !call.ok || call.GrantID != "" || len(agent.OnCallDestinations()) == 0 {
		return Next{}, false
	}
	dest, ok := c.DestinationByHost(call.Host, call.Port)
	if !ok || !dest.serves(call) {
		return Next{}, false
	}
	var found []suggestion
	for _, e := range agent.eligible {
		if !e.Capability.OnCall || e.Capability.Destination.Name != dest.Name {
			continue
		}
		s, ok := e.suggest(call)
		if ok && len(s.values) == len(e.Capability.params) && !view.barred(s) {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return Next{}, false
	}
	best := slices.MinFunc(found, func(a, b suggestion) int {
		return cmp.Or(cmp.Compare(a.width, b.width), cmp.Compare(a.capability, b.capability))
	})
	return Next{Action: ActionRequestGrant, Capability: best.capability, Params: best.values}, true
}

// barred reports whether the task held what s is and does not hold it any more
// for a reason that its agent had no part in; or holds it and may not use it.
func (v *TaskView) barred(s suggestion) bool {
	return slices.ContainsFunc(v.Held, func(h *Held) bool {
		g := &h.Grant
		if g.Capability != s.capability || !maps.Equal(g.Params, s.values) {
			return false
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

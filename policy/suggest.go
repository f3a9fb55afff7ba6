package policy

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// maxNext bounds what a denial lists.
const maxNext = 3

// ActionAwaitApproval is the action of a Next that names a request which people
// have not decided on yet.
const ActionAwaitApproval = "await_approval"

// Awaiting says where a pending grant can be waited for.
func Awaiting(g *Grant) []Next {
	return []Next{{
		Action: ActionAwaitApproval, Capability: g.Capability, Params: g.Params,
		Approval: string(g.Approval), Address: "/v1/grants/" + string(g.ID) + "?wait=30s",
	}}
}

// ActionRequestGrant is the action of a Next that names a capability.
const ActionRequestGrant = "request_grant"

// Suggest lists what the agent may ask for that would cover the call, the
// narrowest first, at most three. Parameters are read out of the call; those
// that cannot be are left out. Each suggestion was verified: it resolves for
// this agent and covers this call.
func (c *Catalog) Suggest(agent *Agent, call *Call) []Next {
	found := c.suggestions(agent, call, func(*Capability) bool { return true })
	var next []Next
	for _, s := range found[:min(len(found), maxNext)] {
		next = append(next, s.next())
	}
	return next
}

// suggestions finds what would cover the call among those capabilities of the
// agent for which among holds, the narrowest first.
func (c *Catalog) suggestions(agent *Agent, call *Call, among func(*Capability) bool) []suggestion {
	if agent == nil || call == nil || !call.ok {
		return nil
	}
	dest, ok := c.DestinationByHost(call.Host, call.Port)
	if !ok || !dest.serves(call) {
		return nil
	}
	var found []suggestion // of this agent's own only: what others may do is not told
	for _, e := range agent.eligible {
		if e.Capability.Destination.Name != dest.Name || !among(e.Capability) {
			continue
		}
		if s, ok := e.suggest(call); ok {
			found = append(found, s)
		}
	}
	slices.SortFunc(found, func(a, b suggestion) int {
		return cmp.Or(cmp.Compare(a.width, b.width), cmp.Compare(a.capability, b.capability))
	})
	return found
}

// SuggestWithin is Suggest for a task: what its envelope leaves out is not
// suggested, and nothing is to a task that can ask for nothing.
func (c *Catalog) SuggestWithin(v *TaskView, agent *Agent, call *Call, now time.Time) []Next {
	if v == nil || !v.Task.Live(now) {
		return nil
	}
	return slices.DeleteFunc(c.Suggest(agent, call), func(n Next) bool { return !v.Task.Permits(n.Capability) })
}

// suggestion is one capability with the values that the call gives.
type suggestion struct {
	capability string
	values     map[string]string
	width      uint32
}

func (s suggestion) next() Next {
	return Next{Action: ActionRequestGrant, Capability: s.capability, Params: s.values}
}

// suggest finds the capability's narrowest rule that would cover the call.
func (e Eligible) suggest(call *Call) (best suggestion, ok bool) {
	for _, r := range e.Capability.rules {
		values := map[string]string{}
		if !r.read(call, values) || !e.complete(values) || !e.verify(r, call, values) {
			continue
		}
		if w := r.width(); !ok || w < best.width {
			best, ok = suggestion{e.Capability.Name, values, w}, true
		}
	}
	return best, ok
}

// read infers the rule's parameters from the call. False: the rule does not fit.
func (r *rule) read(call *Call, values map[string]string) bool {
	if r.method != call.Method || r.host != nil && !r.hostFrom.read(call.Host, values) {
		return false
	}
	if len(call.Segments) < len(r.path) {
		return false
	}
	for i := range r.path {
		p := &r.path[i]
		if !p.any && p.from.re != nil && !p.from.read(call.Segments[i], values) {
			return false
		}
	}
	for _, q := range call.Query {
		if in, ok := r.queryFrom[q.Name]; ok && !in.read(q.Value, values) {
			return false
		}
	}
	return true
}

// complete adds what follows from the values: parameters inside other
// parameters' values, and those for which the agent has no choice.
func (e Eligible) complete(values map[string]string) bool {
	for _, p := range slices.Backward(e.Capability.params) {
		if v, ok := values[p.name]; ok && p.from.re != nil && !p.from.read(v, values) {
			return false
		}
	}
	for name, list := range e.Narrowed { // of several, the agent must choose
		if _, ok := values[name]; !ok && len(list) == 1 {
			values[name] = list[0]
		}
	}
	return true
}

// verify tests a suggestion as a request would be: each value, and the rule
// with the values inserted against the call.
func (e Eligible) verify(r *rule, call *Call, values map[string]string) bool {
	if len(values) == len(e.Capability.params) { // all known: exactly what a request would do
		resolved, err := e.resolve(values)
		if err != nil || resolved.Match(call) != Allowed {
			return false
		}
	}
	for _, p := range e.Capability.params {
		if _, ok := values[p.name]; ok && p.pattern.known(values) && p.check(values, e.Narrowed[p.name]) != "" {
			return false
		}
	}
	for _, name := range r.params() {
		if _, ok := values[name]; !ok {
			return false
		}
	}
	b, err := r.bind(maps.Clone(values), true)
	return err == nil && b.fit(call) == fitAll
}

// params lists the parameters of the rule's host and path, without which it
// cannot be bound.
func (r *rule) params() []string {
	names := r.host.params()
	for _, p := range r.path {
		names = append(names, p.text.params()...)
	}
	return names
}

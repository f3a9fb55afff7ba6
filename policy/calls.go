package policy

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy/rego"
)

// CallFacts are what exeat.call may know of a call besides the call itself.
type CallFacts struct {
	Agent *Agent
	View  *TaskView
	Held  *Held // the grant that covers the call
	// Own is the touch that was made for this very call: not a part of what the
	// task did before it.
	Own *Touch
	// BytesOut are body bytes that the task has sent so far.
	BytesOut uint64
}

// CallRule says which policy denied a call, and why.
type CallRule struct {
	Rule     string
	Messages []string
}

// JudgeCall asks exeat.call about a call that a grant covers, and gives nil
// where it may leave. What depends on the grant alone is evaluated once for
// all its calls. It is pure, but that it ends with ctx.
func (c *Catalog) JudgeCall(ctx context.Context, f CallFacts, call *Call, now time.Time) *CallRule {
	if !c.Policies().HasCall() {
		return nil
	}
	if v := f.ground(c.rego).Call(ctx, f.Input(call, now)); !v.Allowed {
		return &CallRule{Rule: v.Rule, Messages: v.Messages}
	}
	return nil
}

// Input is what exeat.call sees of the call at now.
func (f *CallFacts) Input(call *Call, now time.Time) *rego.CallInput {
	in := &rego.CallInput{
		CallGround: f.grounds(),
		Method:     call.Method, Scheme: call.Scheme, Host: call.Host, Port: call.Port, Path: call.Path,
		Segments: call.Segments, HasBody: call.HasBody, Time: now, History: f.history(),
	}
	for _, q := range call.Query {
		in.Query = append(in.Query, rego.Pair(q))
	}
	return in
}

// history is what the task did before the call.
func (f *CallFacts) history() rego.CallHistory {
	h := rego.CallHistory{BytesOut: f.BytesOut}
	var reached []v1alpha1.Sensitivity
	for _, t := range f.View.Touches {
		if f.Own != nil && t == *f.Own {
			continue
		}
		reached = append(reached, t.Sensitivity)
		h.Destinations = append(h.Destinations, t.Destination)
	}
	slices.SortFunc(reached, compareSensitivity)
	for _, s := range slices.Compact(reached) {
		h.Sensitivities = append(h.Sensitivities, string(s))
	}
	slices.Sort(h.Destinations)
	h.Destinations = slices.Compact(h.Destinations)
	return h
}

// Ground keeps what exeat.call makes of one grant, for the policies that it
// was made under. The zero Ground is empty.
type Ground struct{ made atomic.Pointer[grounded] }

type grounded struct {
	engine *rego.Engine
	of     *rego.Ground
}

// ground gives the grant's, and makes it when there is none or the policies
// are others by now.
func (f *CallFacts) ground(e *rego.Engine) *rego.Ground {
	keep := f.Held.Ground
	if keep != nil {
		if g := keep.made.Load(); g != nil && g.engine == e {
			return g.of
		}
	}
	g := &grounded{e, e.Ground(f.grounds())}
	if keep != nil {
		keep.made.Store(g)
	}
	return g.of
}

func (f *CallFacts) grounds() rego.CallGround {
	g, p, t := &f.Held.Grant, f.Held.Resolved.Capability, &f.View.Task
	return rego.CallGround{
		Agent: f.Agent.rego(), Grant: string(g.ID), Capability: g.Capability, Destination: f.Held.Resolved.Destination.Name,
		Params: f.Held.Resolved.Params, Risk: string(p.Risk), Sensitivity: string(p.Sensitivity),
		Activated: g.Activated, Until: g.Until, Task: string(t.ID), TaskType: t.Type, StartedBy: t.StartedBy,
	}
}

package policy

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Explanation says why a call is decided as it is: which grants were looked
// at, how far each came, and what would be needed. It is for people and for
// the agent itself; the check path never makes one.
type Explanation struct {
	Reason Reason
	// Grant that allows the call, or for a denial the one that came closest.
	Grant GrantID
	// Looked lists every grant of the task that was looked at, in order of
	// their IDs.
	Looked []Looked
	// Next lists what the agent may ask for that would cover the call.
	Next []Next
	// Policy is the rule that denies what the grant covers, else nil.
	Policy *CallRule
}

// Consult asks exeat.call about a call that was explained as allowed in view.
func (e *Explanation) Consult(ctx context.Context, cat *Catalog, f CallFacts, call *Call, now time.Time) {
	i := slices.IndexFunc(f.View.Held, func(h *Held) bool { return h.Grant.ID == e.Grant })
	if e.Reason != Allowed || i < 0 {
		return
	}
	f.Held = f.View.Held[i]
	if e.Policy = cat.JudgeCall(ctx, f, call, now); e.Policy != nil {
		e.Reason = PolicyDenied
	}
}

// Looked is one grant that a call was held against.
type Looked struct {
	Grant      GrantID
	Capability string
	// Covers reports that the grant would let the call out.
	Covers bool
	// Standing says whether the grant serves calls at all; Allowed when so.
	Standing Reason
	// Rules of the grant, its parameters filled in; none when the catalog in
	// force does not give the same capability any more.
	Rules []RuleFit
}

// RuleFit is one rule and the first part of it that the call does not fit.
type RuleFit struct {
	Rule string // such as GET /v1/tickets/OPS-42
	// Part that failed first: method, host, path, query or body; empty when
	// the rule covers the call.
	Part string
	// Want is what would have been right there, in words.
	Want string
}

// Explain decides as Decide does and says why. A nil view is that of a task
// without grants: what would be needed is told all the same.
func Explain(cat *Catalog, agent *Agent, view *TaskView, call *Call, now time.Time) Explanation {
	d := Decide(cat, agent, view, call, now)
	e := Explanation{Reason: d.Reason, Next: d.Next}
	if d.Held != nil {
		e.Grant = d.Held.Grant.ID
	}
	if view == nil && call != nil && call.ok && agent != nil {
		e.Reason = NoGrant
		if dest, ok := cat.DestinationByHost(call.Host, call.Port); !ok || !dest.serves(call) {
			e.Reason = UnknownDestination
		}
	}
	if e.Next == nil && e.Reason != Allowed {
		e.Next = cat.Suggest(agent, call)
	}
	if view == nil || call == nil || !call.ok {
		return e
	}
	for _, h := range view.Held {
		if h.in(view) && (call.GrantID == "" || call.GrantID == h.Grant.ID) {
			e.Looked = append(e.Looked, h.looked(call, now))
		}
	}
	slices.SortFunc(e.Looked, func(a, b Looked) int { return strings.Compare(string(a.Grant), string(b.Grant)) })
	return e
}

func (h *Held) looked(call *Call, now time.Time) Looked {
	l := Looked{Grant: h.Grant.ID, Capability: h.Grant.Capability, Standing: h.standing(call, now)}
	if h.Resolved == nil {
		return l
	}
	elsewhere := !h.Resolved.Destination.serves(call)
	for i := range h.Resolved.rules {
		f := h.Resolved.rules[i].explain(call)
		if elsewhere {
			f.Part, f.Want = "host", "a host of "+h.Resolved.Destination.Name
		}
		l.Rules = append(l.Rules, f)
	}
	l.Covers = l.Standing == Allowed && h.Resolved.Match(call) == Allowed
	return l
}

// explain finds the first part that does not fit, in the order of fit.
func (b *bound) explain(c *Call) RuleFit {
	f := RuleFit{Rule: b.String()}
	switch {
	case b.method != c.Method:
		f.Part, f.Want = "method", b.method
	case b.host != "" && b.host != c.Host:
		f.Part, f.Want = "host", b.host
	case !b.covers(c.Segments):
		f.Part, f.Want = "path", b.wantPath(c.Segments)
	case !b.takesQuery(c.Query):
		f.Part, f.Want = "query", b.wantQuery(c.Query)
	case c.HasBody && !b.anyBody:
		f.Part, f.Want = "body", "no body"
	}
	return f
}

// String writes the rule as its author would, with the parameters filled in.
func (b *bound) String() string { return b.method + " " + b.host + b.wirePath() }

// wantPath names the first segment that is wrong.
func (b *bound) wantPath(segments []string) string {
	for i := range b.path {
		switch p := &b.path[i]; {
		case i >= len(segments):
			return fmt.Sprintf("at least %d segments: %s", len(b.path), b.wirePath())
		case p.any && segments[i] == "":
			return fmt.Sprintf("segment %d not empty", i+1)
		case !p.any && segments[i] != p.text:
			return fmt.Sprintf("segment %d: %s", i+1, p.text)
		}
	}
	if b.rest {
		return "something below " + b.wirePath()
	}
	return fmt.Sprintf("%d segments: %s", len(b.path), b.wirePath())
}

// wantQuery names the first parameter that is wrong; never its value.
func (b *bound) wantQuery(q []QueryParam) string {
	for i := range q {
		if slices.ContainsFunc(q[:i], func(o QueryParam) bool { return o.Name == q[i].Name }) {
			return q[i].Name + " once"
		}
		if b.takesParam(&q[i]) {
			continue
		}
		for j := range b.query {
			if b.query[j].name == q[i].Name {
				return q[i].Name + " as " + b.query[j].source
			}
		}
		return "no parameter " + q[i].Name
	}
	return ""
}

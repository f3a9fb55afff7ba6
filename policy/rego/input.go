package rego

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Agent is who acts, and for whom.
type Agent struct {
	Name, SPIFFEID string
	OwnerGroups    []string
	Contact        string
	Environment    string
}

// IssueInput is what exeat.issue decides on; issue.schema.json describes it.
type IssueInput struct {
	Agent                   Agent
	Capability, Destination string
	Params                  map[string]string
	Risk, Sensitivity       string
	// TTL that the grant would have, MaxUses that it would permit; 0: no bound.
	TTL     time.Duration
	MaxUses int64

	Task, TaskType string
	TaskBegan      time.Time
	// Purpose and Context are what the agent claims.
	Purpose   string
	Context   map[string]string
	StartedBy string
	Envelope  []string
	Chain     []string
	// Approved by these people already; nil: by nobody.
	Approvers []string
	Time      time.Time
	History   IssueHistory
}

// IssueHistory is what happened before a request.
type IssueHistory struct {
	Grants, Denials int // of the task
	// Share of the last 24 hours in which the agent held the capability.
	Share float64
	// Requests of all agents of the owner in the last minute, hour and day.
	OwnerMinute, OwnerHour, OwnerDay int
}

// CallInput is what exeat.call decides on; call.schema.json describes it.
type CallInput struct {
	CallGround
	Method, Scheme, Host string
	Port                 uint16
	Path                 string
	Segments             []string
	Query                []Pair
	HasBody              bool
	Time                 time.Time
	History              CallHistory
}

// CallGround is the part of a CallInput that is the same for every call of a
// grant.
type CallGround struct {
	Agent                          Agent
	Grant, Capability, Destination string
	Params                         map[string]string
	Risk, Sensitivity              string
	Activated, Until               time.Time
	Task, TaskType, StartedBy      string
}

// Pair is a query parameter.
type Pair struct{ Name, Value string }

// CallHistory is what a task did before a call.
type CallHistory struct {
	// Sensitivities that were reached, ascending, each once.
	Sensitivities []string
	Destinations  []string // sorted, each once
	BytesOut      uint64
}

func (in *IssueInput) value() ast.Value {
	state := "none"
	if len(in.Approvers) > 0 {
		state = "approved"
	}
	h := &in.History
	return object(append(in.Agent.items(),
		item("capability", text(in.Capability)), item("params", texts(in.Params)),
		item("risk", text(in.Risk)), item("sensitivity", text(in.Sensitivity)), item("destination", text(in.Destination)),
		item("ttl", fraction(in.TTL.Seconds())), item("maxUses", whole(in.MaxUses)),
		item("task", object(item("id", text(in.Task)), item("type", text(in.TaskType)), item("began", moment(in.TaskBegan)))),
		item("claimed", object(item("purpose", text(in.Purpose)), item("context", texts(in.Context)))),
		item("startedBy", text(in.StartedBy)), item("envelope", listed(in.Envelope)), item("chain", listed(in.Chain)),
		item("approval", object(item("state", text(state)), item("approvers", listed(in.Approvers)))),
		item("time", moment(in.Time)),
		item("history", object(
			item("grants", whole(int64(h.Grants))), item("denials", whole(int64(h.Denials))), item("share24h", fraction(h.Share)),
			item("owner", object(item("requests1m", whole(int64(h.OwnerMinute))), item("requests1h", whole(int64(h.OwnerHour))),
				item("requests24h", whole(int64(h.OwnerDay))))))),
	)...).Value
}

// items of the input that are the same for every call of a grant. body is in
// none of them: nothing inspects bodies yet.
func (g *CallGround) items() []field {
	return append(g.Agent.items(),
		item("grant", object(item("id", text(g.Grant)), item("capability", text(g.Capability)), item("params", texts(g.Params)),
			item("risk", text(g.Risk)), item("sensitivity", text(g.Sensitivity)), item("destination", text(g.Destination)),
			item("activated", moment(g.Activated)), item("until", moment(g.Until)))),
		item("task", object(item("id", text(g.Task)), item("type", text(g.TaskType)), item("startedBy", text(g.StartedBy)))))
}

func (in *CallInput) value() ast.Value {
	return in.over(in.CallGround.items(), func(...string) bool { return true })
}

// over puts on the items of the ground what is the call's own, as far as it is
// read: to build what nobody looks at is most of the cost of a small policy.
func (in *CallInput) over(ground []field, read func(path ...string) bool) ast.Value {
	var call, history []field
	add := func(to *[]field, of, name string, value func() *ast.Term) {
		if read(of, name) {
			*to = append(*to, item(name, value()))
		}
	}
	add(&call, "call", "method", func() *ast.Term { return text(in.Method) })
	add(&call, "call", "scheme", func() *ast.Term { return text(in.Scheme) })
	add(&call, "call", "host", func() *ast.Term { return text(in.Host) })
	add(&call, "call", "port", func() *ast.Term { return whole(int64(in.Port)) })
	add(&call, "call", "path", func() *ast.Term { return text(in.Path) })
	add(&call, "call", "segments", func() *ast.Term { return listed(in.Segments) })
	add(&call, "call", "query", func() *ast.Term { return grouped(in.Query) })
	add(&call, "call", "hasBody", func() *ast.Term { return ast.BooleanTerm(in.HasBody) })
	add(&history, "history", "highestSensitivity", func() *ast.Term { return text(in.History.highest()) })
	add(&history, "history", "sensitivities", func() *ast.Term { return listed(in.History.Sensitivities) })
	add(&history, "history", "destinations", func() *ast.Term { return listed(in.History.Destinations) })
	add(&history, "history", "bytesOut", func() *ast.Term { return count(in.History.BytesOut) })
	return object(append(slices.Clip(ground), item("call", object(call...)), item("time", moment(in.Time)), item("history", object(history...)))...).Value
}

// highest of the sensitivities that were reached.
func (h *CallHistory) highest() string {
	if n := len(h.Sensitivities); n > 0 {
		return h.Sensitivities[n-1]
	}
	return "none"
}

func (a *Agent) items() []field {
	return []field{
		item("agent", object(item("name", text(a.Name)), item("spiffeID", text(a.SPIFFEID)))),
		item("owner", object(item("groups", listed(a.OwnerGroups)), item("contact", text(a.Contact)))),
		item("environment", text(a.Environment)),
	}
}

// grouped gathers the values of each name, in order.
func grouped(pairs []Pair) *ast.Term {
	values := make(map[string][]string, len(pairs))
	for _, p := range pairs {
		values[p.Name] = append(values[p.Name], p.Value)
	}
	fields := make([]field, 0, len(values))
	for name, given := range values {
		fields = append(fields, item(name, listed(given)))
	}
	return object(fields...)
}

// field is one name and value of an object.
type field = [2]*ast.Term

func item(name string, value *ast.Term) field { return field{ast.StringTerm(name), value} }

func object(fields ...field) *ast.Term { return ast.ObjectTerm(fields...) }
func text(s string) *ast.Term          { return ast.StringTerm(s) }
func whole(n int64) *ast.Term          { return ast.NumberTerm(json.Number(strconv.FormatInt(n, 10))) }
func count(n uint64) *ast.Term         { return ast.NumberTerm(json.Number(strconv.FormatUint(n, 10))) }

// fraction writes a number that is one: an infinity or none at all is 0.
func fraction(f float64) *ast.Term {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		f = 0
	}
	return ast.NumberTerm(json.Number(strconv.FormatFloat(f, 'f', -1, 64)))
}

// moment is in nanoseconds since 1970, as Rego's functions of time take it; the
// zero time is 0.
func moment(t time.Time) *ast.Term {
	if t.IsZero() {
		return whole(0)
	}
	return whole(t.UnixNano())
}

func texts(m map[string]string) *ast.Term {
	fields := make([]field, 0, len(m))
	for name, value := range m {
		fields = append(fields, item(name, text(value)))
	}
	return object(fields...)
}

func listed(values []string) *ast.Term {
	terms := make([]*ast.Term, len(values))
	for i, s := range values {
		terms[i] = text(s)
	}
	return ast.ArrayTerm(terms...)
}

package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// Explained says what would become of a call now. It is no decision, and
// nothing of it is recorded.
type Explained struct {
	Agent string          `json:"agent"`
	Call  ExplainedCall   `json:"call"`
	Tasks []ExplainedTask `json:"tasks" doc:"One answer for each task looked at; one without a task when there is none."`
}

// ExplainedCall is the call in the form that rules are compared with.
type ExplainedCall struct {
	Method string `json:"method"`
	URL    string `json:"url" doc:"Without its query."`
}

// ExplainedTask is the answer within one task.
type ExplainedTask struct {
	Task    string           `json:"task,omitempty"`
	Allowed bool             `json:"allowed"`
	Reason  string           `json:"reason"`
	Grant   string           `json:"grant,omitempty" doc:"The grant that allows the call, or that came closest."`
	Grants  []ExplainedGrant `json:"grants,omitempty" doc:"Every grant that was looked at."`
	Next    []Next           `json:"next,omitempty" doc:"What may be asked for that would cover the call."`
	// Rule and Messages are there with policy_denied.
	Rule     string   `json:"rule,omitempty" doc:"The policy that denies what the grant covers." example:"exeat.call.deny"`
	Messages []string `json:"messages,omitempty" doc:"What the policy says."`
}

// ExplainedGrant is one grant that the call was held against.
type ExplainedGrant struct {
	Grant      string          `json:"grant"`
	Capability string          `json:"capability"`
	Covers     bool            `json:"covers" doc:"It would let the call out."`
	Standing   string          `json:"standing" doc:"Whether it serves calls at all: allowed, or why not."`
	Rules      []ExplainedRule `json:"rules,omitempty"`
}

// ExplainedRule is one rule and the first part of it that does not fit.
type ExplainedRule struct {
	Rule string `json:"rule" example:"GET /v1/tickets/OPS-42"`
	Part string `json:"part,omitempty" enum:"method,host,path,query,body" doc:"What failed first; absent when the rule covers the call."`
	Want string `json:"want,omitempty" doc:"What would have been right there."`
}

// RecordedDecision is a decision as the audit log holds it.
type RecordedDecision struct {
	Decision    string           `json:"decision"`
	Time        time.Time        `json:"time"`
	Allowed     bool             `json:"allowed"`
	Reason      string           `json:"reason"`
	Agent       string           `json:"agent,omitempty"`
	Owner       []string         `json:"owner,omitempty"`
	Instance    string           `json:"instance,omitempty"`
	Task        string           `json:"task,omitempty"`
	Grant       string           `json:"grant,omitempty"`
	Capability  string           `json:"capability,omitempty"`
	Destination string           `json:"destination,omitempty"`
	Method      string           `json:"method"`
	URL         string           `json:"url" doc:"Without its query."`
	Query       []string         `json:"query,omitempty" doc:"Names of query parameters; values are not recorded."`
	Removed     []string         `json:"removed,omitempty" doc:"Request headers that did not pass."`
	Catalog     string           `json:"catalog,omitempty"`
	Policy      string           `json:"policy,omitempty"`
	Next        []Next           `json:"next,omitempty"`
	Outcome     *RecordedOutcome `json:"outcome,omitempty" doc:"How the call ended, once the sidecar has told."`
}

// RecordedOutcome is how a call ended.
type RecordedOutcome struct {
	Time     time.Time `json:"time"`
	Status   int       `json:"status" doc:"HTTP status, 0 when none was sent."`
	Details  string    `json:"details,omitempty" doc:"Envoy's response code details."`
	Flags    []string  `json:"flags,omitempty" doc:"Envoy's response flags."`
	Sent     uint64    `json:"sent" doc:"Body bytes to the upstream."`
	Received uint64    `json:"received" doc:"Body bytes from the upstream."`
}

type (
	explainInput struct {
		Body struct {
			Agent  string `json:"agent,omitempty" maxLength:"253" doc:"Whose call it is; for operators. A sidecar always asks for its own agent."`
			Task   string `json:"task,omitempty" maxLength:"64" doc:"Within which task; all live ones when absent."`
			Method string `json:"method" minLength:"1" maxLength:"32" example:"GET"`
			URL    string `json:"url" minLength:"1" maxLength:"8192" example:"https://tickets.example.org/v1/tickets/OPS-42"`
			Body   bool   `json:"body,omitempty" doc:"The call carries a body."`
		}
	}
	explainOutput struct{ Body Explained }
	// DecisionPath is embedded where a path names a decision.
	DecisionPath struct {
		ID string `path:"id" maxLength:"64" doc:"The decision's ID, as a denial names it."`
	}
	decisionOutput struct{ Body RecordedDecision }
)

func (b builder) explainRoutes() {
	tag := []string{"decisions"}
	serve(b, policy.VerbView, huma.Operation{OperationID: "explain", Method: http.MethodPost, Path: "/v1/explain", Tags: tag,
		Summary:     "Say what would become of a call, and why",
		Description: "Which grants are looked at, the first part of each rule that does not fit, and what may be asked for. It is no decision and is not recorded.",
	}, bodyRequired, b.explain)
	serve(b, policy.VerbView, huma.Operation{OperationID: "getDecision", Method: http.MethodGet, Path: "/v1/decisions/{id}", Tags: tag,
		Summary: "Read a recorded decision"}, bodyNone, b.getDecision)
}

func (b builder) explain(ctx context.Context, c grant.Caller, in *explainInput) (*explainOutput, error) {
	e, err := b.grants.Explain(ctx, c, grant.Question{
		Agent: in.Body.Agent, Task: policy.TaskID(in.Body.Task), Method: in.Body.Method, URL: in.Body.URL, HasBody: in.Body.Body,
	})
	if err != nil {
		return nil, err
	}
	return &explainOutput{wireExplained(e)}, nil
}

// getDecision reads the log of the process that is asked, which may be long.
func (b builder) getDecision(ctx context.Context, c grant.Caller, in *DecisionPath) (*decisionOutput, error) {
	ctx, stop := b.untilDrained(ctx)
	defer stop()
	d, err := b.grants.Decision(ctx, c, in.ID)
	if err != nil {
		return nil, err
	}
	return &decisionOutput{wireRecorded(d)}, nil
}

func wireExplained(e grant.Explained) Explained {
	out := Explained{Agent: e.Agent, Call: ExplainedCall{e.Call.Method, e.Call.URL()}, Tasks: []ExplainedTask{}}
	for _, t := range e.Tasks {
		task := ExplainedTask{
			Task: string(t.Task), Allowed: t.Reason == policy.Allowed, Reason: t.Reason.String(), Grant: string(t.Grant), Next: wireNext(t.Next),
		}
		if t.Policy != nil {
			task.Rule, task.Messages = t.Policy.Rule, t.Policy.Messages
		}
		for _, l := range t.Looked {
			task.Grants = append(task.Grants, wireLooked(l))
		}
		out.Tasks = append(out.Tasks, task)
	}
	return out
}

func wireLooked(l policy.Looked) ExplainedGrant {
	g := ExplainedGrant{Grant: string(l.Grant), Capability: l.Capability, Covers: l.Covers, Standing: l.Standing.String()}
	for _, r := range l.Rules {
		g.Rules = append(g.Rules, ExplainedRule(r))
	}
	return g
}

func wireNext(list []policy.Next) []Next {
	var out []Next
	for _, n := range list {
		out = append(out, Next(n))
	}
	return out
}

func wireRecorded(d audit.Recorded) RecordedDecision {
	out := RecordedDecision{
		Decision: d.ID, Time: d.Time.UTC(), Allowed: d.Reason == policy.Allowed, Reason: d.Reason.String(), Agent: d.Agent, Owner: d.Owner,
		Instance: string(d.Instance), Task: string(d.Task), Grant: string(d.Grant), Capability: d.Capability, Destination: d.Destination,
		Method: d.Call.Method, URL: d.Call.URL(), Removed: d.Removed, Catalog: d.Catalog, Policy: d.Policy, Next: wireNext(d.Next),
	}
	for _, q := range d.Call.Query {
		out.Query = append(out.Query, q.Name)
	}
	if o := d.Outcome; o != nil {
		out.Outcome = &RecordedOutcome{Time: o.Time.UTC(), Status: o.Status, Details: o.Details, Flags: o.Flags, Sent: o.Sent, Received: o.Received}
	}
	return out
}

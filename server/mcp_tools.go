package server

import (
	"context"
	"encoding/json"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

type (
	listToolInput  struct{}
	listToolOutput struct {
		Capabilities []map[string]any `json:"capabilities"`
	}
	requestToolInput struct {
		Capability string            `json:"capability"`
		Params     map[string]string `json:"params,omitempty"`
		TTL        string            `json:"ttl,omitempty"`
		MaxUses    int64             `json:"maxUses,omitempty"`
		Task       string            `json:"task,omitempty"`
	}
	grantToolOutput struct {
		Grant map[string]any `json:"grant"`
	}
	waitToolInput struct {
		Grant string `json:"grant" jsonschema:"the grant's ID"`
	}
	endToolInput struct {
		Outcome string `json:"outcome,omitempty" jsonschema:"completed or failed; completed when absent"`
		Task    string `json:"task,omitempty" jsonschema:"the task's ID; the one that you act in when absent"`
	}
	endToolOutput struct {
		Receipt map[string]any `json:"receipt"`
	}
	explainToolInput struct {
		Decision string `json:"decision,omitempty" jsonschema:"the decision ID of a denied call"`
		Method   string `json:"method,omitempty" jsonschema:"of a call that may be made, such as GET"`
		URL      string `json:"url,omitempty" jsonschema:"of a call that may be made"`
		Body     bool   `json:"body,omitempty" jsonschema:"the call carries a body"`
		Task     string `json:"task,omitempty" jsonschema:"within which task; the one that you act in when absent"`
	}
	explainToolOutput struct {
		Recorded  map[string]any `json:"recorded,omitempty"`
		Explained map[string]any `json:"explained,omitempty"`
	}
)

// answered is an answer in the HTTP API's form, or nothing with an error. It is
// a map because a schema that is made of our types would tell of their fields in
// Go, not of what is written.
func answered(v any, err error) (map[string]any, error) {
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	return out, json.Unmarshal(text, &out)
}

func (t tools) listCapabilities(context.Context, listToolInput) (listToolOutput, error) {
	list, err := t.grants.Capabilities(t.caller, "")
	out := listToolOutput{Capabilities: []map[string]any{}}
	for _, c := range list.List {
		one, err := answered(wireCapability(c), nil)
		if err != nil {
			return out, err
		}
		out.Capabilities = append(out.Capabilities, one)
	}
	return out, err
}

// requestSchema is one branch for each capability that the caller may ask for,
// so that a model is told what fits before it asks.
func (t tools) requestSchema() map[string]any {
	names, branches := []any{}, []any{}
	if list, err := t.grants.Capabilities(t.caller, ""); err == nil {
		for _, c := range list.List {
			names = append(names, c.Name)
			branches = append(branches, map[string]any{
				"title":      c.Name,
				"properties": map[string]any{"capability": map[string]any{"const": c.Name, "description": c.Description}, "params": paramSchema(c.Schema)},
			})
		}
	}
	properties := map[string]any{
		"capability": map[string]any{"type": "string", "description": "which one of what you may ask for", "enum": names},
		"params":     map[string]any{"type": "object", "additionalProperties": map[string]any{"type": "string"}},
		"ttl":        map[string]any{"type": "string", "description": "how long it lasts, such as 2m; the capability's own when absent"},
		"maxUses":    map[string]any{"type": "integer", "minimum": 1, "description": "how many calls it authorises; the capability's own when absent"},
		"task":       map[string]any{"type": "string", "description": "the task's ID; the one that you act in when absent"},
	}
	out := map[string]any{"type": "object", "properties": properties, "required": []any{"capability"}, "additionalProperties": false}
	if len(branches) > 0 {
		out["oneOf"] = branches
	} else { // an empty enum is no schema; nothing at all may be asked for
		properties["capability"] = map[string]any{"type": "string", "maxLength": 0}
	}
	return out
}

// paramSchema is a capability's schema within another: its dialect is said once.
func paramSchema(schema json.RawMessage) map[string]any {
	out := map[string]any{}
	if json.Unmarshal(schema, &out) != nil {
		return map[string]any{"type": "object"} // it is checked again by what it asks
	}
	delete(out, "$schema")
	return out
}

func (t tools) requestGrant(ctx context.Context, in requestToolInput) (out grantToolOutput, err error) {
	var ttl Duration
	if in.TTL != "" && ttl.UnmarshalText([]byte(in.TTL)) != nil {
		return out, problem(codeInvalid, "ttl: want a duration such as 2m.").at("ttl")
	}
	task, err := t.task(in.Task)
	if err != nil {
		return out, err
	}
	st, err := t.grants.Request(ctx, t.caller, grant.Request{Task: task, Capability: in.Capability, Params: in.Params, TTL: ttl.Duration, MaxUses: in.MaxUses}, defaultWait)
	out.Grant, err = answered(wireGrant(st), err)
	return out, err
}

// task is the one that the caller names, or acts in.
func (t tools) task(named string) (policy.TaskID, error) {
	if named != "" {
		return policy.TaskID(named), nil
	}
	return t.grants.ActsIn(t.caller)
}

func (t tools) waitForGrant(ctx context.Context, in waitToolInput) (out grantToolOutput, err error) {
	ctx, stop := t.untilDrained(ctx)
	defer stop()
	st, err := t.grants.Get(ctx, t.caller, policy.GrantID(in.Grant), maxWait)
	out.Grant, err = answered(wireGrant(st), err)
	return out, err
}

func (t tools) endTask(ctx context.Context, in endToolInput) (out endToolOutput, err error) {
	why, ok := map[string]policy.EndReason{"": policy.EndCompleted, "completed": policy.EndCompleted, "failed": policy.EndFailed}[in.Outcome]
	if !ok {
		return out, problem(codeInvalid, "outcome: want completed or failed.").at("outcome")
	}
	task, err := t.task(in.Task)
	if err != nil {
		return out, err
	}
	r, err := t.grants.EndTask(ctx, t.caller, task, why)
	out.Receipt, err = answered(wireReceipt(r), err)
	return out, err
}

// explainDenial reads the record, and says what would become of the call now.
func (t tools) explainDenial(ctx context.Context, in explainToolInput) (out explainToolOutput, err error) {
	q := grant.Question{Task: policy.TaskID(in.Task), Method: in.Method, URL: in.URL, HasBody: in.Body}
	if in.Decision != "" {
		d, err := t.grants.Decision(ctx, t.caller, in.Decision)
		if out.Recorded, err = answered(wireRecorded(d), err); err != nil {
			return out, err
		}
		q.Task, q.Method, q.URL = d.Task, d.Call.Method, d.Call.URL()
	}
	if q.URL == "" {
		return out, problem(codeInvalid, "Give the decision of a denied call, or a method and a url.")
	}
	e, err := t.grants.Explain(ctx, t.caller, q)
	if err != nil && in.Decision != "" {
		return out, nil //nolint:nilerr // a call that has no canonical form is told by its record alone
	}
	out.Explained, err = answered(wireExplained(e), err)
	return out, err
}

package server

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

type (
	// EnforceWait is embedded where a reply may wait for an enforcement.
	EnforceWait struct {
		Wait Duration `query:"wait" doc:"How long to wait until the ending is enforced; 5s when absent, at most 1m. It is accepted whatever comes."`
	}
	// ScopePath is embedded where a path names an agent, an owner or a capability.
	ScopePath struct {
		Name string `path:"name" maxLength:"253" doc:"Its name in the catalog."`
	}
	heartbeatInput struct {
		TaskPath
		Proof
		Body *empty
	}
	pauseInput struct {
		TaskPath
		Proof
		EnforceWait
		Body *empty
	}
	resumeInput struct {
		TaskPath
		Proof
		Body *empty
	}
	renewInput struct {
		GrantPath
		Proof
		Wait Duration `query:"wait" doc:"How long to wait until it is ready; 10s when absent, at most 1m."`
		Body *struct {
			TTL Duration `json:"ttl,omitzero" doc:"How long it lasts; what the capability says when absent."`
		}
	}
	revokeScopeInput struct {
		ScopePath
		EnforceWait
		Body *empty
	}
	revokeAllInput struct {
		EnforceWait
		Body *empty
	}
	revocationOutput struct{ Body Revocation }
	suspendInput     struct {
		ScopePath
		EnforceWait
		Body *struct {
			Reason string `json:"reason,omitempty" maxLength:"1024" doc:"Why, in words; the agent is told."`
		}
	}
	suspendOutput struct {
		Body struct {
			Agent      Agent      `json:"agent"`
			Revocation Revocation `json:"revocation"`
		}
	}
	resumeAgentInput struct {
		ScopePath
		Body *empty
	}
	agentOutput  struct{ Body Agent }
	agentsOutput struct {
		Body struct {
			Agents []Agent `json:"agents"`
		}
	}
	endingInput struct {
		Scope    string   `query:"scope" required:"true" enum:"all,owner,agent,capability,task,grant" doc:"What was ended."`
		Name     string   `query:"name" maxLength:"253" doc:"Its name or ID; empty for all."`
		Revision int64    `query:"revision" required:"true" minimum:"1" doc:"The ending's revision, as its reply said."`
		Wait     Duration `query:"wait" doc:"How long to wait until it is enforced; at most 1m."`
	}
	endingOutput struct{ Body Ending }
)

// endingRoutes are those that pause, renew, revoke, suspend and resume.
func (b builder) endingRoutes() {
	b.taskEndings()
	b.scopeEndings()
	b.agentRoutes()
	serve(b, policy.VerbView, huma.Operation{OperationID: "getEnding", Method: http.MethodGet, Path: "/v1/endings", Tags: []string{"endings"},
		Summary: "Read how far an ending is, or wait until it is enforced"}, bodyNone, b.getEnding)
}

func (b builder) taskEndings() {
	tasks, grants := []string{"tasks"}, []string{"grants"}
	own := securityOf(verbOwn) // an agent's sidecar may do for its own task what people need a verb for
	serve(b, verbOwn, huma.Operation{OperationID: "heartbeat", Method: http.MethodPost, Path: "/v1/tasks/{id}/heartbeat", Tags: tasks,
		Summary: "Say that a task is still worked on"}, bodyOptional, b.heartbeat)
	serve(b, policy.VerbSuspend, huma.Operation{OperationID: "pauseTask", Method: http.MethodPost, Path: "/v1/tasks/{id}/pause", Tags: tasks, Security: own,
		Summary: "End all grants of a task, which stays"}, bodyOptional, b.pauseTask)
	serve(b, policy.VerbResume, huma.Operation{OperationID: "resumeTask", Method: http.MethodPost, Path: "/v1/tasks/{id}/resume", Tags: tasks, Security: own,
		Summary: "Let a paused task ask for grants again"}, bodyOptional, b.resumeTask)
	serve(b, verbOwn, huma.Operation{OperationID: "renewGrant", Method: http.MethodPost, Path: "/v1/grants/{id}/renew", Tags: grants,
		Summary: "Ask for a grant's successor", DefaultStatus: http.StatusCreated, Responses: b.requestResponses(),
		Description: "A full new decision about the same capability and parameters, with a credential of its own. The old grant goes on to its own end."},
		bodyOptional, b.renewGrant)
}

func (b builder) scopeEndings() {
	for _, r := range []struct {
		id, path, summary string
		kind              policy.ScopeKind
	}{
		{"revokeAgent", "/v1/agents/{name}/revoke", "End all grants of an agent", policy.ScopeAgent},
		{"revokeOwner", "/v1/owners/{name}/revoke", "End all grants of an owner's agents", policy.ScopeOwner},
		{"revokeCapability", "/v1/capabilities/{name}/revoke", "End all grants of a capability", policy.ScopeCapability},
	} {
		serve(b, policy.VerbRevoke, huma.Operation{OperationID: r.id, Method: http.MethodPost, Path: r.path, Tags: []string{"endings"},
			Summary: r.summary}, bodyOptional, b.revokeScope(r.kind))
	}
	// Groups of people may have names with a slash, as some issuers write them.
	b.table["POST /v1/owners/{name}/revoke"].anyName = true
	serve(b, policy.VerbRevoke, huma.Operation{OperationID: "revokeAll", Method: http.MethodPost, Path: "/v1/revoke-all", Tags: []string{"endings"},
		Summary: "End all grants of everyone"}, bodyOptional, b.revokeAll)
}

func (b builder) agentRoutes() {
	tag := []string{"agents"}
	serve(b, policy.VerbView, huma.Operation{OperationID: "listAgents", Method: http.MethodGet, Path: "/v1/agents", Tags: tag,
		Summary: "List agents, and who suspended them"}, bodyNone, b.listAgents)
	serve(b, policy.VerbView, huma.Operation{OperationID: "getAgent", Method: http.MethodGet, Path: "/v1/agents/{name}", Tags: tag,
		Summary: "Read an agent"}, bodyNone, b.getAgent)
	serve(b, policy.VerbSuspend, huma.Operation{OperationID: "suspendAgent", Method: http.MethodPost, Path: "/v1/agents/{name}/suspend", Tags: tag,
		Summary: "Suspend an agent, with all its grants"}, bodyOptional, b.suspendAgent)
	serve(b, policy.VerbResume, huma.Operation{OperationID: "resumeAgent", Method: http.MethodPost, Path: "/v1/agents/{name}/resume", Tags: tag,
		Summary: "Let a suspended agent start tasks again"}, bodyOptional, b.resumeAgent)
}

func (b builder) heartbeat(ctx context.Context, c grant.Caller, in *heartbeatInput) (*taskOutput, error) {
	t, err := b.grants.Heartbeat(ctx, c, policy.TaskID(in.ID))
	if err != nil {
		return nil, err
	}
	return &taskOutput{wireTask(t)}, nil
}

func (b builder) pauseTask(ctx context.Context, c grant.Caller, in *pauseInput) (*receiptOutput, error) {
	return receiptOf(b.grants.Pause(ctx, c, policy.TaskID(in.ID), in.enforce()))
}

func (b builder) resumeTask(ctx context.Context, c grant.Caller, in *resumeInput) (*taskOutput, error) {
	t, err := b.grants.Resume(ctx, c, policy.TaskID(in.ID))
	if err != nil {
		return nil, err
	}
	return &taskOutput{wireTask(t)}, nil
}

func (b builder) renewGrant(ctx context.Context, c grant.Caller, in *renewInput) (*requestOutput, error) {
	var ttl time.Duration
	if in.Body != nil {
		ttl = in.Body.TTL.Duration
	}
	return requestedOf(b.grants.Renew(ctx, c, policy.GrantID(in.ID), ttl, waitOf(in.Wait.Duration, defaultWait)))
}

// enforce is how long a reply may wait for its ending's enforcement.
func (w EnforceWait) enforce() time.Duration { return waitOf(w.Wait.Duration, grant.EnforceWait) }

func (b builder) revokeScope(kind policy.ScopeKind) handler[revokeScopeInput, revocationOutput] {
	return func(ctx context.Context, c grant.Caller, in *revokeScopeInput) (*revocationOutput, error) {
		return revocationOf(b.grants.RevokeScope(ctx, c, policy.Scope{Kind: kind, Name: in.Name}, in.enforce()))
	}
}

func (b builder) revokeAll(ctx context.Context, c grant.Caller, in *revokeAllInput) (*revocationOutput, error) {
	return revocationOf(b.grants.RevokeScope(ctx, c, policy.Scope{Kind: policy.ScopeAll}, in.enforce()))
}

func revocationOf(r grant.Revocation, err error) (*revocationOutput, error) {
	if err != nil {
		return nil, err
	}
	return &revocationOutput{wireRevocation(r)}, nil
}

func (b builder) suspendAgent(ctx context.Context, c grant.Caller, in *suspendInput) (*suspendOutput, error) {
	reason := ""
	if in.Body != nil {
		reason = in.Body.Reason
	}
	a, r, err := b.grants.Suspend(ctx, c, in.Name, reason, in.enforce())
	if err != nil {
		return nil, err
	}
	out := &suspendOutput{}
	out.Body.Agent, out.Body.Revocation = wireAgent(a), wireRevocation(r)
	return out, nil
}

func (b builder) resumeAgent(ctx context.Context, c grant.Caller, in *resumeAgentInput) (*agentOutput, error) {
	return agentOf(b.grants.ResumeAgent(ctx, c, in.Name))
}

func (b builder) getAgent(_ context.Context, c grant.Caller, in *ScopePath) (*agentOutput, error) {
	return agentOf(b.grants.Agent(c, in.Name))
}

func agentOf(a grant.AgentStatus, err error) (*agentOutput, error) {
	if err != nil {
		return nil, err
	}
	return &agentOutput{wireAgent(a)}, nil
}

func (b builder) listAgents(_ context.Context, c grant.Caller, _ *struct{}) (*agentsOutput, error) {
	out := &agentsOutput{}
	out.Body.Agents = []Agent{}
	for _, a := range b.grants.Agents(c) {
		out.Body.Agents = append(out.Body.Agents, wireAgent(a))
	}
	return out, nil
}

// getEnding changes nothing, so a server that stops answers it at once.
func (b builder) getEnding(ctx context.Context, c grant.Caller, in *endingInput) (*endingOutput, error) {
	ctx, stop := b.untilDrained(ctx)
	defer stop()
	of := grant.EndingOf{Scope: policy.Scope{Kind: policy.ScopeKind(in.Scope), Name: in.Name}, Revision: in.Revision}
	if in.Scope == "grant" {
		of = grant.EndingOf{Grant: policy.GrantID(in.Name), Revision: in.Revision}
	}
	e, err := b.grants.Enforcement(ctx, c, of, waitOf(in.Wait.Duration, 0))
	if err != nil {
		return nil, err
	}
	return &endingOutput{wireEnding(e)}, nil
}

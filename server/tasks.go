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
	// TaskPath and the others that are embedded are exported because huma looks
	// into no other ones.
	TaskPath struct {
		ID string `path:"id" maxLength:"64" doc:"The task's ID."`
	}
	// Proof documents a header that the front reads; huma need not.
	Proof struct {
		Credential string `header:"Exeat-Task-Credential" doc:"The task's credential. Not needed through the task's own proxy, which says the task itself."`
	}
	startTaskInput struct {
		Body struct {
			Type      string   `json:"type,omitempty" maxLength:"64" doc:"What kind of work it is, such as triage." example:"triage"`
			Claimed   Claimed  `json:"claimed,omitempty"`
			Timeout   Duration `json:"timeout,omitzero" doc:"When the task ends by itself; 1h when absent, at most 24h."`
			Heartbeat Duration `json:"heartbeat,omitzero" doc:"How often a heartbeat will come, between 5s and 1h. Without one for two intervals the task ends as failed. None is expected when absent."`
			Envelope  []string `json:"envelope,omitempty" minItems:"1" maxItems:"64" nullable:"false" doc:"The only capabilities that may be asked for within the task; all that the agent is eligible for when absent."`
		}
	}
	startTaskOutput struct{ Body StartedTask }
	taskOutput      struct{ Body Task }
	tasksOutput     struct {
		Body struct {
			Tasks []Task `json:"tasks"`
		}
	}
	endTaskInput struct {
		TaskPath
		Proof
		Body *empty
	}
	operatorTaskInput struct {
		TaskPath
		EnforceWait
		Body *empty
	}
	// empty is the body of a request that has nothing to say.
	empty         struct{}
	receiptOutput struct{ Body Receipt }
	denialsInput  struct {
		TaskPath
		After int      `query:"after" minimum:"0" doc:"Only denials after the one with this number."`
		Wait  Duration `query:"wait" doc:"How long to wait for one; at most 1m."`
	}
	denialsOutput struct {
		Body struct {
			Denials []Denial `json:"denials" doc:"At most the latest 256."`
			Next    int      `json:"next" doc:"What to send as after next."`
		}
	}
)

func (b builder) taskRoutes() {
	tag := []string{"tasks"}
	serve(b, verbOwn, huma.Operation{OperationID: "startTask", Method: http.MethodPost, Path: "/v1/tasks", Tags: tag,
		Summary: "Start a task on the calling sidecar", DefaultStatus: http.StatusCreated}, bodyRequired, b.startTask)
	serve(b, policy.VerbView, huma.Operation{OperationID: "listTasks", Method: http.MethodGet, Path: "/v1/tasks", Tags: tag,
		Summary: "List the calling sidecar's tasks"}, bodyNone, b.listTasks)
	serve(b, policy.VerbView, huma.Operation{OperationID: "getTask", Method: http.MethodGet, Path: "/v1/tasks/{id}", Tags: tag,
		Summary: "Read a task with its grants"}, bodyNone, b.getTask)
	serve(b, verbOwn, huma.Operation{OperationID: "completeTask", Method: http.MethodPost, Path: "/v1/tasks/{id}/complete", Tags: tag,
		Summary: "End a task as completed, with all its grants"}, bodyOptional, b.endTask(policy.EndCompleted))
	serve(b, verbOwn, huma.Operation{OperationID: "failTask", Method: http.MethodPost, Path: "/v1/tasks/{id}/fail", Tags: tag,
		Summary: "End a task as failed, with all its grants"}, bodyOptional, b.endTask(policy.EndFailed))
	serve(b, policy.VerbRevoke, huma.Operation{OperationID: "revokeTask", Method: http.MethodPost, Path: "/v1/tasks/{id}/revoke", Tags: tag,
		Summary: "End any task with all its grants; for operators"}, bodyOptional, b.revokeTask)
	serve(b, policy.VerbView, huma.Operation{OperationID: "getReceipt", Method: http.MethodGet, Path: "/v1/tasks/{id}/receipt", Tags: tag,
		Summary: "Read what a task has done so far"}, bodyNone, b.getReceipt)
	serve(b, policy.VerbView, huma.Operation{OperationID: "listDenials", Method: http.MethodGet, Path: "/v1/tasks/{id}/denials", Tags: tag,
		Summary: "Follow a task's denied calls"}, bodyNone, b.listDenials)
}

// startTask answers with the task's credential, which no other route ever shows.
func (b builder) startTask(ctx context.Context, c grant.Caller, in *startTaskInput) (*startTaskOutput, error) {
	t, err := b.grants.StartTask(ctx, c, grant.TaskRequest{
		Type: in.Body.Type, Purpose: in.Body.Claimed.Purpose, Context: in.Body.Claimed.Context,
		Timeout: in.Body.Timeout.Duration, Heartbeat: in.Body.Heartbeat.Duration, Envelope: in.Body.Envelope,
	})
	if err != nil {
		return nil, err
	}
	return &startTaskOutput{StartedTask{Task: wireTask(t), Credential: t.Credential.Expose()}}, nil
}

func (b builder) listTasks(_ context.Context, c grant.Caller, _ *struct{}) (*tasksOutput, error) {
	out := &tasksOutput{}
	out.Body.Tasks = []Task{}
	for _, t := range b.grants.Tasks(c) {
		out.Body.Tasks = append(out.Body.Tasks, wireTask(t))
	}
	return out, nil
}

func (b builder) getTask(ctx context.Context, c grant.Caller, in *TaskPath) (*taskOutput, error) {
	st, err := b.grants.Task(ctx, c, policy.TaskID(in.ID))
	if err != nil {
		return nil, err
	}
	t := wireTask(st.Task)
	for _, g := range st.Grants {
		t.Grants = append(t.Grants, wireGrant(g))
	}
	return &taskOutput{t}, nil
}

// endTask serves both ways in which an agent ends its task. Its answer waits
// for enforcement, not for the record.
func (b builder) endTask(why policy.EndReason) handler[endTaskInput, receiptOutput] {
	return func(ctx context.Context, c grant.Caller, in *endTaskInput) (*receiptOutput, error) {
		return receiptOf(b.grants.EndTask(ctx, c, policy.TaskID(in.ID), why))
	}
}

func (b builder) revokeTask(ctx context.Context, c grant.Caller, in *operatorTaskInput) (*receiptOutput, error) {
	return receiptOf(b.grants.RevokeTask(ctx, c, policy.TaskID(in.ID), in.enforce()))
}

// getReceipt is for whoever lost the answer to an ending.
func (b builder) getReceipt(ctx context.Context, c grant.Caller, in *TaskPath) (*receiptOutput, error) {
	return receiptOf(b.grants.Receipt(ctx, c, policy.TaskID(in.ID)))
}

func receiptOf(r grant.Receipt, err error) (*receiptOutput, error) {
	if err != nil {
		return nil, err
	}
	return &receiptOutput{wireReceipt(r)}, nil
}

// listDenials is a long poll rather than a stream: it passes every proxy, and
// a lost answer is asked for again by its number.
func (b builder) listDenials(ctx context.Context, c grant.Caller, in *denialsInput) (*denialsOutput, error) {
	ctx, stop := b.untilDrained(ctx)
	defer stop()
	// Without wait the list is there at once; the bound is for a lookup in etcd.
	ctx, cancel := context.WithTimeout(ctx, max(waitOf(in.Wait.Duration, 0), time.Second))
	defer cancel()
	found, next, err := b.grants.Denials(ctx, c, policy.TaskID(in.ID), in.After, in.Wait.Duration > 0)
	if err != nil {
		return nil, err
	}
	out := &denialsOutput{}
	out.Body.Denials, out.Body.Next = []Denial{}, next
	for _, d := range found {
		out.Body.Denials = append(out.Body.Denials, wireDenial(d))
	}
	return out, nil
}

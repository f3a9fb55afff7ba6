package client_test

import (
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/server/servertest"
)

func TestTheClientEndsAndRenews(t *testing.T) {
	t.Parallel()
	api, ctx := servertest.Start(t), t.Context()
	c := through(t, api, servertest.Triage1)
	op, err := client.NewLocal(api.Socket)
	api.Must(err)
	defer op.Close()
	task, err := c.StartTask(ctx, client.TaskRequest{Heartbeat: 10 * time.Second, Envelope: []string{"read-ticket"}})
	api.Must(err)
	c = c.ForTask(task.Credential)
	beaten, err := c.Heartbeat(ctx, task.ID)
	api.Must(err)
	if task.Heartbeat.String() != "10s" || beaten.HeartbeatBy.IsZero() || len(task.Envelope) != 1 {
		t.Errorf("got %+v, %+v", task, beaten)
	}
	ask := func() client.Grant {
		g, err := c.RequestGrant(ctx, client.GrantRequest{Task: task.ID, Capability: "read-ticket", Params: map[string]string{"ticket": "OPS-1"}, Wait: long})
		api.Must(err)
		return g
	}
	old := ask()
	g, err := c.RenewGrant(ctx, old.ID, time.Minute, long)
	api.Must(err)
	if g.Renews != old.ID || !g.Ready {
		t.Errorf("got %+v", g)
	}
	list, more, err := op.Grants(ctx, client.GrantFilter{Agent: "triage", Task: task.ID})
	api.Must(err)
	if len(list) != 2 || more || list[0].ID != g.ID {
		t.Errorf("got %+v", list)
	}
	for scope, name := range map[client.Scope]string{
		client.ScopeAll: "", client.ScopeOwner: "support", client.ScopeAgent: "triage", client.ScopeCapability: "read-ticket",
	} {
		ask()
		r, err := op.Revoke(ctx, scope, name, time.Millisecond)
		api.Must(err)
		e, err := op.GetEnding(ctx, scope, name, r.Ending.Revision, long)
		api.Must(err)
		if r.Scope != scope || r.Grants == 0 || !e.Enforced || e.EnforcedAt.Before(r.Ending.AcceptedAt) {
			t.Errorf("%s: %+v, %+v", scope, r, e)
		}
	}
	one, err := op.Revoke(ctx, client.ScopeGrant, ask().ID, long)
	api.Must(err)
	if one.Grants != 1 || !one.Ending.Enforced {
		t.Errorf("got %+v", one)
	}
	r, err := c.PauseTask(ctx, task.ID)
	api.Must(err)
	back, err := c.ResumeTask(ctx, task.ID)
	api.Must(err)
	if r.Task.State != "paused" || back.State != "active" {
		t.Errorf("got %+v, %+v", r.Task, back)
	}
	ask()
	whole, err := op.Revoke(ctx, client.ScopeTask, task.ID, long)
	api.Must(err)
	if whole.Grants != 1 || !whole.Ending.Enforced {
		t.Errorf("got %+v", whole)
	}
}

func TestTheClientSuspendsAndResumes(t *testing.T) {
	t.Parallel()
	api, ctx := servertest.Start(t), t.Context()
	op, err := client.NewLocal(api.Socket)
	api.Must(err)
	defer op.Close()
	a, r, err := op.SuspendAgent(ctx, "triage", "a drill", long)
	api.Must(err)
	if a.State != "suspended" || a.Suspension.Reason != "a drill" || !r.Ending.Enforced {
		t.Errorf("got %+v, %+v", a, r)
	}
	if _, err := through(t, api, servertest.Triage1).StartTask(ctx, client.TaskRequest{}); !client.IsCode(err, "agent_suspended") {
		t.Errorf("got %v", err)
	}
	a, err = op.ResumeAgent(ctx, "triage")
	api.Must(err)
	list, err := op.Agents(ctx)
	api.Must(err)
	if a.State != "active" || len(list) != 3 || list[1].Name != "triage" || list[1].State != "active" {
		t.Errorf("got %+v, %+v", a, list)
	}
}

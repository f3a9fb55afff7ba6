package e2e

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

// watcher is an agent of other owners, whose streams show that an ending ends
// nobody else's.
const watcher = `apiVersion: exeat.dev/v1alpha1
kind: Agent
metadata: {name: watcher}
spec:
  spiffeID: spiffe://example.org/agent/watcher
  sidecarID: spiffe://example.org/sidecar/watcher/{instance}
  owner: {groups: [/other/people], contact: other@example.org}
  capabilities: [{name: watch-ticket}]
`

// TestEverythingInAScopeIsCut: by one write, whatever an agent speaks, while the
// streams that are not in the scope go on. Afterwards what is asked for anew is
// decided anew.
func TestEverythingInAScopeIsCut(t *testing.T) {
	t.Parallel()
	st := stack.StartWith(t, map[string]string{"watcher.yaml": watcher})
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	one, two, other := st.Sidecar(t, "triage"), st.Sidecar(t, "triage"), st.Sidecar(t, "watcher")
	for i, tt := range []struct {
		scope client.Scope
		name  string
		other bool // the other agent's streams end too
	}{
		{client.ScopeOwner, "support-platform", false},
		{client.ScopeOwner, "/other/people", true}, // a name with slashes
		{client.ScopeAgent, "triage", false},
		{client.ScopeCapability, "watch-ticket", true},
		{client.ScopeAll, "", true},
	} {
		t.Run(fmt.Sprint(tt.scope, " ", tt.name), func(t *testing.T) {
			own, theirs := openAll(t, fmt.Sprint(i+1), one, two), openAll(t, fmt.Sprint(i+1, "9"), other)
			if tt.name == "/other/people" {
				own, theirs = theirs, nil
			}
			r, err := op.Revoke(stack.Context(t), tt.scope, tt.name, 30*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Ending.Enforced || r.Grants < len(own) || r.Ending.EnforcedAt.Before(r.Ending.AcceptedAt) {
				t.Errorf("got %+v", r)
			}
			for _, o := range own {
				o.ended(t, st, op, "revoked")
				stack.WantDenied(t, o.again(t), "grant_ended")
				o.anew(t)
			}
			for _, o := range theirs {
				if tt.other {
					o.ended(t, st, op, "revoked")
					continue
				}
				o.stream.awaitEvents(t, 2)
				o.task.Complete(t)
			}
		})
	}
}

// opened is an open stream with its grant.
type opened struct {
	stream *stream
	grant  client.Grant
	task   *stack.Task
	agent  agent
	ticket string
}

// openAll opens a stream on each sidecar by each kind of client.
func openAll(t *testing.T, number string, sidecars ...*stack.Sidecar) []*opened {
	t.Helper()
	var list []*opened
	for i, sc := range sidecars {
		for j, k := range kinds {
			o := &opened{task: sc.Task(t), agent: k.start(t), ticket: fmt.Sprintf("OPS-%s%d%d", number, i, j)}
			o.stream, o.grant = watch(t, o.agent, o.task, 5*time.Minute, o.ticket)
			list = append(list, o)
		}
	}
	return list
}

// ended checks that the stream is cut, at the upstream as well, and what the
// record says of the grant.
func (o *opened) ended(t *testing.T, st *stack.Stack, op *client.Client, reason string) {
	t.Helper()
	o.stream.awaitEnd(t)
	awaitClosed(t, st, o.grant)
	ending{reason: reason}.ends(t, op, o.task, o.grant)
}

func (o *opened) again(t *testing.T) stack.Reply {
	t.Helper()
	return o.agent.get(t, o.task, stack.Tickets+o.ticket+"/events", nil)
}

// anew asks for the same once more, and ends the task.
func (o *opened) anew(t *testing.T) {
	t.Helper()
	s, _ := watch(t, o.agent, o.task, time.Minute, o.ticket)
	o.task.Complete(t)
	s.awaitEnd(t)
}

// TestASuspendedAgentIsToldSo: its streams are cut, each call says why it is
// denied, and nothing of it comes back with its resumption.
func TestASuspendedAgentIsToldSo(t *testing.T) {
	t.Parallel()
	st := stack.StartWith(t, map[string]string{"watcher.yaml": watcher})
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	sc := st.Sidecar(t, "triage")
	own, theirs := openAll(t, "7", sc), openAll(t, "8", st.Sidecar(t, "watcher"))
	_, r, err := op.SuspendAgent(stack.Context(t), "triage", "it went astray", 30*time.Second)
	if err != nil || !r.Ending.Enforced {
		t.Fatalf("got %+v, %v", r, err)
	}
	for _, o := range own {
		o.ended(t, st, op, "agent_suspended")
		if d := stack.WantDenied(t, o.again(t), "agent_suspended"); d.Retry != "never" {
			t.Errorf("the denial says %+v", d)
		}
	}
	if _, err := sc.API.StartTask(stack.Context(t), client.TaskRequest{}); !client.IsCode(err, "agent_suspended") {
		t.Errorf("a task while suspended: %v", err)
	}
	if _, err := op.ResumeAgent(stack.Context(t), "triage"); err != nil {
		t.Fatal(err)
	}
	for _, o := range own {
		if reply := o.again(t); reply.Status == 200 {
			t.Errorf("it came back: %d %s", reply.Status, reply.Body)
		}
	}
	for _, o := range theirs {
		o.stream.awaitEvents(t, 2)
	}
	fresh := sc.Task(t)
	fresh.ReadTicket(t, "OPS-1")
	stack.WantOK(t, own[0].agent.get(t, fresh, stack.Tickets+"OPS-1", nil))
}

// TestTooManyDenialsSuspend: the call after the last one too many is denied
// because the agent is suspended, and its stream is cut.
func TestTooManyDenialsSuspend(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	st.EditCatalog(t, "agents.yaml", "  owner: {groups: [support-platform]", "  onDenials: {count: 5, per: 1m, then: suspend}\n  owner: {groups: [support-platform]")
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	stack.Await(t, "the catalog with a threshold", func() bool {
		list, err := op.Agents(stack.Context(t))
		return err == nil && slices.ContainsFunc(list, func(a client.Agent) bool { return a.Name == "triage" && a.OnDenials != nil })
	})
	sc := st.Sidecar(t, "triage")
	k, a := sc.Task(t), kinds[0].start(t)
	s, g := watch(t, a, k, time.Minute, "OPS-1")
	for range 5 {
		stack.WantDenied(t, a.get(t, k, stack.Tickets+"OPS-2", nil), "call_not_granted")
	}
	stack.WantDenied(t, a.get(t, k, stack.Tickets+"OPS-2", nil), "agent_suspended")
	s.awaitEnd(t)
	awaitClosed(t, st, g)
	ending{reason: "agent_suspended"}.ends(t, op, k, g)
}

// TestAPausedTask: its streams are cut and its calls denied in words, while the
// task and the way to its API stay; resumed, it goes on with new grants.
func TestAPausedTask(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	own := openAll(t, "6", st.Sidecar(t, "triage"))
	for _, o := range own {
		r, err := o.task.API.PauseTask(stack.Context(t), o.task.ID)
		if err != nil || !r.Ending.Enforced || r.Task.State != "paused" {
			t.Fatalf("got %+v, %v", r, err)
		}
		o.ended(t, st, op, "revoked")
		stack.WantDenied(t, o.again(t), "grant_ended")
		if _, err := o.task.API.RequestGrant(stack.Context(t), client.GrantRequest{Task: o.task.ID, Capability: "watch-ticket", Params: map[string]string{"ticket": o.ticket}}); !client.IsCode(err, "paused") {
			t.Errorf("a grant while paused: %v", err)
		}
		if _, err := o.task.API.ResumeTask(stack.Context(t), o.task.ID); err != nil {
			t.Fatal(err)
		}
		stack.WantDenied(t, o.again(t), "grant_ended")
		o.anew(t)
	}
}

// TestALostHeartbeatCuts: time itself is the subject. The stream of a task that
// nobody vouches for any more ends, and the one beside it goes on.
func TestALostHeartbeatCuts(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	sc := st.Sidecar(t, "triage")
	beating := func() *stack.Task {
		task, err := sc.API.StartTask(stack.Context(t), client.TaskRequest{Heartbeat: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return &stack.Task{Task: task, API: sc.API.ForTask(task.Credential), Sidecar: sc}
	}
	a := kinds[0].start(t)
	lost, kept := beating(), beating()
	s, g := watch(t, a, lost, time.Minute, "OPS-1")
	other, _ := watch(t, a, kept, time.Minute, "OPS-2")
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for tick := time.NewTicker(2 * time.Second); ; {
			select {
			case <-stop:
				tick.Stop()
				return
			case <-tick.C:
				if _, err := kept.API.Heartbeat(stack.Context(t), kept.ID); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	last := s.awaitEnd(t)
	if last.Before(lost.HeartbeatBy.Add(-time.Second)) || last.After(lost.HeartbeatBy.Add(2*time.Second)) {
		t.Errorf("the last event came at %v; the heartbeat was due by %v", last, lost.HeartbeatBy)
	}
	awaitClosed(t, st, g)
	ending{reason: "failed"}.ends(t, op, lost, g)
	if task, err := op.Task(stack.Context(t), lost.ID); err != nil || task.EndReason != "failed" || !task.EndedAt.Equal(lost.HeartbeatBy) {
		t.Errorf("got %+v, %v", task, err)
	}
	if r := a.get(t, lost, stack.Tickets+"OPS-1/events", nil); r.Status == 200 {
		t.Errorf("the stream could be opened again: %d", r.Status)
	}
	other.awaitEvents(t, 2)
}

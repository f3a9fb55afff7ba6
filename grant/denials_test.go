package grant_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// withThreshold is the catalog in which triage is suspended at its third denial
// within a minute.
var withThreshold = strings.Replace(catalogJSON, `"spiffeID": "spiffe://example.org/agent/triage"`,
	`"onDenials": {"count": 3, "per": "1m", "then": "suspend"}, "spiffeID": "spiffe://example.org/agent/triage"`, 1)

func (w *world) agent(i policy.Instance) *policy.Agent { return w.as(i, policy.Secret{}).Agent }

func TestSoManyDenialsSuspendAnAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(withThreshold)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	d := w.NewDenials("")
	suspended := func() bool { return w.store.Index().Suspended("triage") != nil }

	for range 10 { // none of these is the agent's own doing
		for _, r := range []policy.Reason{
			policy.StateStale, policy.Overloaded, policy.Internal, policy.AuditUnavailable, policy.CredentialUnavailable,
			policy.ApprovalPending, policy.AgentSuspended, policy.UnknownAgent, policy.UnknownTask, policy.Allowed,
		} {
			d.Denied(w.ctx, w.agent(triage1), r)
		}
		d.Denied(w.ctx, w.agent(writer), policy.NoGrant) // has no threshold
		d.Denied(w.ctx, nil, policy.NoGrant)
	}
	d.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
	d.Denied(w.ctx, w.agent(triage1), policy.CallNotGranted)
	if suspended() {
		t.Fatal("suspended before the third")
	}
	d.Denied(w.ctx, w.agent(triage1), policy.MalformedCall)
	if !suspended() {
		t.Fatal("not suspended with the third: the next call would be decided on")
	}
	sus := w.store.Index().Suspended("triage")
	if sus.By != "exeat/denials" || sus.Why != "3 calls denied within 1m0s" {
		t.Errorf("got %+v", sus)
	}
	w.until(task.ID, func(v *policy.TaskView) bool { return find(v, g.ID).Grant.End == policy.EndAgentSuspended })

	_, err := w.ResumeAgent(w.ctx, operator, "triage")
	w.must(err)
	d.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
	d.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
	if suspended() {
		t.Error("what was counted before it was resumed counts again")
	}
	d.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
	if !suspended() {
		t.Error("not suspended again")
	}
}

func TestDenialsLeaveTheWindow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.publish(withThreshold)
	d := w.NewDenials("")
	for range 8 {
		d.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
		w.ahead.Add(int64(31 * time.Second))
	}
	if sus := w.store.Index().Suspended("triage"); sus != nil {
		t.Errorf("two in a minute: %+v", sus)
	}
}

// Replicas of one store, each with some of the denials.
func TestReplicasCountTogether(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, shared)
	w.publish(withThreshold)
	ctx, cancel := context.WithCancel(w.ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	one, two := w.NewDenials("one"), w.NewDenials("two")
	wg.Go(func() { _ = one.Run(ctx) })
	wg.Go(func() { _ = two.Run(ctx) })
	one.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
	two.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
	one.Denied(w.ctx, w.agent(triage1), policy.NoGrant)
	sub := w.store.Index().Subscribe()
	defer sub.Close()
	waiting, stop := context.WithTimeout(w.ctx, long)
	defer stop()
	for w.store.Index().Suspended("triage") == nil {
		if _, err := sub.Next(waiting); err != nil {
			t.Fatal("three denials over two replicas did not suspend it")
		}
	}
}

package grant_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

func onCallWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	w.publish(strings.Replace(catalogJSON, `"description": "Read one ticket.",`, `"description": "Read one ticket.", "onCall": true,`, 1))
	return w
}

func TestCallsThatAskAtOnceAskOnce(t *testing.T) {
	t.Parallel()
	w := onCallWorld(t)
	w.cars.connect(triage1, false)
	task, _ := w.task(triage1, time.Hour)
	next := policy.Next{Capability: "read-ticket", Params: ticket}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := w.RequestOnCall(w.ctx, task.ID, next); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	v := w.store.Index().Task(task.ID)
	if len(v.Held) != 1 || v.Held[0].Grant.State != policy.Active || v.Held[0].Credential == nil {
		t.Errorf("%+v", v.Held)
	}
	// It is there, so that nothing more is asked for.
	if err := w.RequestOnCall(w.ctx, task.ID, next); err != nil || len(w.store.Index().Task(task.ID).Held) != 1 {
		t.Errorf("%v", err)
	}
}

func TestACallsRequestIsARequestLikeAnyOther(t *testing.T) {
	t.Parallel()
	w := onCallWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, time.Hour)
	var refused *policy.RequestError
	if err := w.RequestOnCall(w.ctx, task.ID, policy.Next{Capability: "other"}); !errors.As(err, &refused) || refused.Code != policy.CodeNotEligible {
		t.Errorf("for what the agent is not eligible: %v", err)
	}
	if err := w.RequestOnCall(w.ctx, "t_01J00000000000000000000000", policy.Next{Capability: "read-ticket", Params: ticket}); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("for no task: %v", err)
	}
	late, cancel := context.WithDeadline(w.ctx, time.Now())
	defer cancel()
	if err := w.RequestOnCall(late, task.ID, policy.Next{Capability: "read-ticket", Params: ticket}); err == nil {
		t.Error("no time was left and it was ready")
	}
	if _, err := w.EndTask(w.ctx, c, task.ID, policy.EndCompleted); err != nil {
		t.Fatal(err)
	}
	if err := w.RequestOnCall(w.ctx, task.ID, policy.Next{Capability: "read-ticket", Params: ticket}); err == nil {
		t.Error("a task that has ended got a grant")
	}
}

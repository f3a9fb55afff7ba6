package grant_test

import (
	"errors"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

func TestReadyMeansCredentialReplicasAndSidecar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, true)
	w.mint.set(func() { w.mint.held = true })
	task, c := w.task(triage1, 0)
	ask := grant.Request{Task: task.ID, Capability: "read-ticket", Params: ticket}

	st, err := w.Request(w.ctx, c, ask, 0)
	w.must(err)
	if st.Ready || st.Waiting != grant.WaitCredential {
		t.Fatalf("without a credential: ready %v, waits for %q", st.Ready, st.Waiting)
	}
	w.mint.set(func() { w.mint.held = false })
	w.until(task.ID, func(v *policy.TaskView) bool { h := find(v, st.Grant.ID); return h != nil && h.Credential != nil })

	w.expect(c, st.Grant.ID, grant.WaitSidecar)
	w.cars.connect(triage1, false)
	got, err := w.Get(w.ctx, c, st.Grant.ID, long)
	w.must(err)
	if !got.Ready || got.Waiting != "" || got.Grant.State != policy.Active {
		t.Fatalf("all is there: %+v", got)
	}
}

// expect reads a grant without waiting, and wants it to lack something.
func (w *world) expect(c grant.Caller, id policy.GrantID, want grant.Waiting) {
	w.t.Helper()
	st, err := w.Get(w.ctx, c, id, 0)
	w.must(err)
	if st.Ready || st.Waiting != want || st.Why == "" {
		w.t.Fatalf("ready %v, waits for %q (%s), want %q", st.Ready, st.Waiting, st.Why, want)
	}
}

func TestAGrantIsNotReadyWithoutALiveReplica(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	w.leave()
	w.leave = nil
	task, c := w.task(triage1, 0)
	st, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 50*time.Millisecond)
	w.must(err)
	if st.Ready || st.Waiting != grant.WaitReplicas {
		t.Fatalf("ready %v, waits for %q", st.Ready, st.Waiting)
	}
	w.join()
	if st, err = w.Get(w.ctx, c, st.Grant.ID, long); err != nil || !st.Ready {
		t.Fatalf("once a replica is there: %+v, %v", st, err)
	}
}

func TestAGrantNamesTheSidecarThatIsMissing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task, c := w.task(triage1, 0)
	st, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 50*time.Millisecond)
	w.must(err)
	if st.Ready || st.Waiting != grant.WaitDisconnected {
		t.Fatalf("ready %v, waits for %q", st.Ready, st.Waiting)
	}
	w.reject(triage1, "bad listener")
	w.expect(c, st.Grant.ID, grant.WaitRejected)
}

func TestAGrantWhoseCredentialCannotBeMintedIsEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	w.mint.set(func() { w.mint.fail = "the file is missing" })
	task, c := w.task(triage1, 0)
	st, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "read-ticket", Params: ticket}, long)
	w.must(err)
	if st.Ready || st.Grant.State != policy.Ended || st.Grant.End != policy.EndFailed || st.Why != "the file is missing" {
		t.Fatalf("got %+v", st)
	}
	// What needs no credential is not held up by that.
	if st, err = w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, long); err != nil || !st.Ready {
		t.Fatalf("got %+v, %v", st, err)
	}
}

func TestWaitingEndsWhenTheGrantDoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, true) // will never be ready
	task, c := w.task(triage1, 0)
	st, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 0)
	w.must(err)
	got := make(chan grant.Status, 1)
	go func() {
		st, err := w.Get(w.ctx, c, st.Grant.ID, time.Hour)
		if err != nil {
			t.Error(err)
		}
		got <- st
	}()
	w.cars.connect(triage1, false) // only endings need it now; whoever is first, the answer holds
	_, _, err = w.End(w.ctx, c, st.Grant.ID)
	w.must(err)
	if st := <-got; !st.Ready && st.Grant.State != policy.Ended {
		t.Fatalf("got %+v", st)
	}
}

func TestUntilIsTheNearerOfGrantAndTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	short, c := w.task(triage1, time.Minute)
	if g := w.granted(c, short, 10*time.Minute); !g.Until.Equal(short.Until.Truncate(time.Second)) {
		t.Errorf("until %v, the task's is %v", g.Until, short.Until)
	}
	whole, c := w.task(triage1, time.Hour)
	if g := w.granted(c, whole, 10*time.Minute); !g.Until.Equal(g.Activated.Add(10 * time.Minute).Truncate(time.Second)) {
		t.Errorf("lasts %v", g.Until.Sub(g.Activated))
	}
	if g := w.granted(c, whole, 0); !g.Until.Equal(g.Activated.Add(5 * time.Minute).Truncate(time.Second)) {
		t.Errorf("asking for nothing gives %v", g.Until.Sub(g.Activated))
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task, c := w.task(triage1, 0)
	for name, r := range map[string]struct {
		ask  grant.Request
		code string
	}{
		"there is no such capability":        {grant.Request{Capability: "fly"}, policy.CodeUnknownCapability},
		"the agent is not eligible":          {grant.Request{Capability: "other"}, policy.CodeNotEligible},
		"a parameter is missing":             {grant.Request{Capability: "read-ticket", Params: map[string]string{"project": "OPS"}}, policy.CodeMissingParam},
		"a parameter is unknown":             {grant.Request{Capability: "browse", Params: map[string]string{"x": "1"}}, policy.CodeUnknownParam},
		"a parameter is outside the agent's": {grant.Request{Capability: "read-ticket", Params: map[string]string{"project": "DEV", "ticket": "DEV-1"}}, policy.CodeParamNotAllowed},
		"a parameter contradicts another":    {grant.Request{Capability: "read-ticket", Params: map[string]string{"project": "OPS", "ticket": "SUP-1"}}, policy.CodeParamNotAllowed},
		"it would last too long":             {grant.Request{Capability: "browse", TTL: 16 * time.Minute}, policy.CodeTTLTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			r.ask.Task = task.ID
			_, err := w.Request(w.ctx, c, r.ask, 0)
			var refused *policy.RequestError
			if !errors.As(err, &refused) || refused.Code != r.code {
				t.Errorf("got %v, want %s", err, r.code)
			}
		})
	}
	if v := w.store.Index().Task(task.ID); len(v.Held) != 0 {
		t.Errorf("%d grants were made", len(v.Held))
	}
}

func TestAnEndedTaskTakesNoMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	_, err := w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	if _, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 0); !errors.Is(err, grant.ErrEnded) {
		t.Errorf("got %v", err)
	}
}

func TestTaskRequestsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := make([]byte, grant.MaxPurpose+1)
	for i := range long {
		long[i] = 'x'
	}
	for name, r := range map[string]struct {
		ask   grant.TaskRequest
		field string
	}{
		"a type with a space":                {grant.TaskRequest{Type: "a b"}, "type"},
		"a type that is too long":            {grant.TaskRequest{Type: string(long[:grant.MaxType+1])}, "type"},
		"a purpose that is too long":         {grant.TaskRequest{Purpose: string(long)}, "claimed.purpose"},
		"a purpose that controls a terminal": {grant.TaskRequest{Purpose: "\x1b[2J"}, "claimed.purpose"},
		"a purpose that turns the text":      {grant.TaskRequest{Purpose: "a\u202eb"}, "claimed.purpose"},
		"a context with a long value":        {grant.TaskRequest{Context: map[string]string{"a": string(long[:grant.MaxContextText+1])}}, "claimed.context"},
		"a context with a long name":         {grant.TaskRequest{Context: map[string]string{string(long[:grant.MaxContextKey+1]): ""}}, "claimed.context"},
		"a timeout that is too long":         {grant.TaskRequest{Timeout: grant.MaxTimeout + 1}, "timeout"},
		"a timeout below zero":               {grant.TaskRequest{Timeout: -1}, "timeout"},
	} {
		_, err := w.StartTask(w.ctx, w.as(triage1, policy.Secret{}), r.ask)
		var invalid *grant.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != r.field {
			t.Errorf("%s: got %v, want one about %s", name, err, r.field)
		}
	}
	task, err := w.StartTask(w.ctx, w.as(triage1, policy.Secret{}), grant.TaskRequest{Purpose: "日本語\n\tтекст"})
	w.must(err)
	if task.Type != "task" || task.Until.Sub(task.Began) != grant.DefaultTimeout || len(task.Credential.Expose()) != 43 {
		t.Errorf("got %+v", task)
	}
}

func TestATaskHoldsABoundedNumberOfGrants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	ask := grant.Request{Task: task.ID, Capability: "browse"}
	var first policy.GrantID
	for i := range grant.MaxLive {
		st, err := w.Request(w.ctx, c, ask, long)
		w.must(err)
		if i == 0 {
			first = st.Grant.ID
		}
	}
	if _, err := w.Request(w.ctx, c, ask, 0); !errors.Is(err, grant.ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	_, _, err := w.End(w.ctx, c, first)
	w.must(err)
	if _, err := w.Request(w.ctx, c, ask, 0); err != nil {
		t.Errorf("after one has ended: %v", err)
	}
}

package store_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

var (
	restricted = policy.Touch{Destination: "vault", Sensitivity: v1alpha1.SensitivityRestricted}
	public     = policy.Touch{Destination: "web", Sensitivity: v1alpha1.SensitivityPublic}
)

// Once a touch is made, a check on any replica that begins then sees it; and
// what began before has ended.
func TestATouchIsSeenByEveryReplica(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 2)
	for _, s := range stores {
		join(t, s)
	}
	a, b := stores[0], stores[1]
	task := storetest.Task(t, a)
	running := b.Index().Begin()
	type result struct {
		made bool
		err  error
	}
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		made, err := a.Touch(ctx, task.ID, restricted)
		done <- result{made, err}
	}()
	select {
	case r := <-done:
		t.Fatalf("a check that knows nothing of it still runs: %+v", r)
	case <-time.After(100 * time.Millisecond): // it would be over by then
	}
	running.Done()
	if r := <-done; !r.made || r.err != nil {
		t.Fatalf("%+v", r)
	}
	for i, s := range stores {
		if !s.Index().Task(task.ID).Touched(restricted) {
			t.Errorf("replica %d does not know", i)
		}
	}
	if made, err := b.Touch(ctx, task.ID, restricted); made || err != nil {
		t.Errorf("again: made %v, %v", made, err)
	}
	if made, err := b.Touch(ctx, task.ID, public); !made || err != nil {
		t.Errorf("another: made %v, %v", made, err)
	}
	if got := a.Index().Task(task.ID).Touches; !slices.Equal(got, []policy.Touch{restricted, public}) {
		t.Errorf("touches %+v", got)
	}
}

func TestATouchThatIsNotConfirmedFails(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	join(t, s)
	task := storetest.Task(t, s)
	defer s.Index().Begin().Done()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := s.Touch(ctx, task.ID, public); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestTouchesGoWithTheirTask(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	join(t, s)
	task := storetest.Task(t, s)
	if _, err := s.Touch(t.Context(), "t_01J00000000000000000000000", public); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of no task: %v", err)
	}
	if _, err := s.Touch(t.Context(), task.ID, public); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.ChangeTask(t.Context(), task.ID, func(k policy.Task) (policy.Task, error) {
		var err error
		k.Life, err = policy.Transition(k.Life, policy.End(policy.EndCompleted), s.Now())
		return k, err
	})
	if err == nil {
		err = s.DropTask(t.Context(), task.ID)
	}
	if err != nil {
		t.Fatal(err)
	}
	again := task
	rev, err := s.CreateTask(t.Context(), again)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	if got := s.Index().Task(task.ID).Touches; len(got) > 0 {
		t.Errorf("left behind: %+v", got)
	}
}

package store_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// opened gives a store with the fixtures' catalog and an active task.
func opened(t *testing.T, opts ...storetest.Option) (*store.Store, policy.Task) {
	t.Helper()
	s := storetest.Open(t, opts...)
	storetest.Publish(t, s, storetest.Set())
	return s, storetest.Task(t, s)
}

func sealed(g policy.Grant) policy.SealedCredential {
	return policy.SealedCredential{Grant: g.ID, Sealed: []byte("sealed")}
}

func held(s *store.Store, g policy.Grant) *policy.Held {
	if v := s.Index().Task(g.Task); v != nil {
		for _, h := range v.Held {
			if h.Grant.ID == g.ID {
				return h
			}
		}
	}
	return nil
}

func TestAFloorEndsWhatIsThereAndWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	for _, scope := range []policy.Scope{
		{Kind: policy.ScopeAll}, {Kind: policy.ScopeAgent, Name: storetest.Agent}, {Kind: policy.ScopeOwner, Name: storetest.Owner},
		{Kind: policy.ScopeCapability, Name: storetest.ReadTicket},
	} {
		t.Run(string(scope.Kind), func(t *testing.T) {
			t.Parallel()
			s, task := opened(t)
			g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
			pending := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-2")
			pending.Life = policy.Begin(s.Now(), s.Now().Add(time.Minute))
			seen, err := s.CreateGrants(t.Context(), s.Index().Revision(), pending)
			if err != nil {
				t.Fatal(err)
			}
			inFlight := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-3")

			rev, err := s.RaiseFloor(t.Context(), scope)
			if err != nil {
				t.Fatal(err)
			}
			storetest.Await(t, s, rev)
			if h := held(s, g); !h.Raised() || s.Index().Floor(scope).Revision() != rev {
				t.Error("a grant that was active is not ended")
			}
			if _, err := s.CreateGrants(t.Context(), seen, inFlight); !errors.Is(err, store.ErrFloor) {
				t.Errorf("a grant that was decided before: %v", err)
			}
			if _, _, err := s.ChangeGrant(t.Context(), task.ID, pending.ID, activate(s)); !errors.Is(err, store.ErrFloor) {
				t.Errorf("activating one that was asked for before: %v", err)
			}
			if _, err := s.PutCredential(t.Context(), task.ID, sealed(g)); !errors.Is(err, store.ErrFloor) {
				t.Errorf("a credential for one that has ended: %v", err)
			}
			after := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-4")
			if held(s, after).Raised() {
				t.Error("a grant that was decided afterwards is ended")
			}
		})
	}
}

func activate(s *store.Store) func(policy.Grant) (policy.Grant, error) {
	return func(g policy.Grant) (policy.Grant, error) {
		var err error
		g.Life, err = policy.Transition(g.Life, policy.Activate(s.Now().Add(30*time.Second)), s.Now())
		return g, err
	}
}

func TestAFloorOfATaskEndsItsGrantsAlone(t *testing.T) {
	t.Parallel()
	s, one := opened(t)
	two := storetest.Task(t, s)
	g1, g2 := storetest.Grant(t, s, one, storetest.ReadTicket, "OPS-1"), storetest.Grant(t, s, two, storetest.ReadTicket, "OPS-1")
	rev, err := s.RaiseFloor(t.Context(), policy.Scope{Kind: policy.ScopeTask, Name: string(one.ID)})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	if !held(s, g1).Raised() || held(s, g2).Raised() {
		t.Error("want the one task's grant ended, and not the other's")
	}
}

func TestGrantsAreMadeOnlyInAnActiveTaskUnderTheCatalogInForce(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	seen := s.Index().Revision()
	unknown := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-1")
	unknown.Task = "t_unknown"
	if _, err := s.CreateGrants(t.Context(), seen, unknown); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("without a task: %v", err)
	}
	foreign := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-1")
	foreign.Instance = "spiffe://example.org/sidecar/triage/two"
	if _, err := s.CreateGrants(t.Context(), seen, foreign); !errors.Is(err, store.ErrConflict) {
		t.Errorf("of another instance: %v", err)
	}
	old := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-1")
	set := storetest.Set()
	set.Capabilities[0].Spec.Description = "changed"
	storetest.Publish(t, s, set)
	if _, err := s.CreateGrants(t.Context(), s.Index().Revision(), old); !errors.Is(err, store.ErrConflict) {
		t.Errorf("under another catalog: %v", err)
	}
	g := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-1")
	if _, err := s.CreateGrants(t.Context(), seen, g, g); !errors.Is(err, store.ErrBatch) {
		t.Errorf("twice the same: %v", err)
	}
	if _, err := s.CreateGrants(t.Context(), seen); !errors.Is(err, store.ErrBatch) {
		t.Errorf("none: %v", err)
	}
	if _, _, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndCompleted)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateGrants(t.Context(), s.Index().Revision(), g); !errors.Is(err, store.ErrConflict) {
		t.Errorf("in a task that has ended: %v", err)
	}
	if _, err := s.CreateTask(t.Context(), task); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a task that is there already: %v", err)
	}
}

func TestTheEndOfATaskIsOneWriteAndEndsItsGrants(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	before := held(s, g)
	ended, rev, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndFailed))
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Index().AwaitTask(t.Context(), task.ID, func(v *policy.TaskView) bool { return v.Task.State == policy.Ended })
	if err != nil || v.Revision != rev {
		t.Fatalf("%+v, %v; want revision %d", v, err, rev)
	}
	h := held(s, g)
	if h.Grant.State != policy.Ended || h.Grant.End != policy.EndFailed || !h.Grant.EndedAt.Equal(ended.EndedAt) {
		t.Errorf("the grant is %+v", h.Grant.Life)
	}
	if before.Grant.State != policy.Active {
		t.Error("a view that was handed out has changed")
	}
	if kept, err := s.GetGrant(t.Context(), g.ID); err != nil || kept.State != policy.Active {
		t.Errorf("the grant's own record: %+v, %v; one write should not have touched it", kept.Life, err)
	}
	// Ending again: the error of the state machine, and the task as it is.
	again, at, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndCompleted))
	if !errors.Is(err, policy.ErrEnded) || again.End != policy.EndFailed || at != rev {
		t.Errorf("again: %v %d %v", again.End, at, err)
	}
}

func TestTheEndOfAnActiveGrantCutsItsDestination(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	if v := s.Index().Task(task.ID); len(v.Cuts) != 0 {
		t.Fatalf("cuts %v before anything was cut", v.Cuts)
	}
	_, rev, err := s.ChangeGrant(t.Context(), task.ID, g.ID, endGrant(s, policy.EndRevoked))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	if v := s.Index().Task(task.ID); v.Cuts[storetest.Destination] != rev || held(s, g).Grant.End != policy.EndRevoked {
		t.Errorf("want a cut at %d: %v", rev, v.Cuts)
	}
	if _, err := s.PutCredential(t.Context(), task.ID, sealed(g)); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a credential for a grant that has ended: %v", err)
	}

	never := storetest.NewGrant(t, s, task, storetest.EditTicket, "OPS-1")
	never.Life = policy.Begin(s.Now(), s.Now().Add(time.Minute))
	if _, err := s.CreateGrants(t.Context(), rev, never); err != nil {
		t.Fatal(err)
	}
	_, last, err := s.ChangeGrant(t.Context(), task.ID, never.ID, endGrant(s, policy.EndWithdrawn))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, last)
	if v := s.Index().Task(task.ID); v.Cuts[storetest.Destination] != rev {
		t.Error("the end of a grant that was never active cut streams")
	}
}

func TestACredentialShowsInTheIndex(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	if held(s, g).Credential != nil {
		t.Fatal("a credential before any was put")
	}
	rev, err := s.PutCredential(t.Context(), task.ID, sealed(g))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	c := held(s, g).Credential
	if c == nil || string(c.Sealed) != "sealed" || c.Revision != rev || c.Grant != g.ID {
		t.Fatalf("got %+v, want revision %d", c, rev)
	}
	if _, err := s.PutCredential(t.Context(), task.ID, policy.SealedCredential{Grant: "g_unknown"}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("of a grant that is not there: %v", err)
	}
}

func TestManyChangeOneTaskAndNoneIsLost(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 2)
	task := storetest.Task(t, stores[0])
	const workers, each = 8, 10
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for n := range each {
				_, _, err := stores[w%2].ChangeTask(t.Context(), task.ID, func(task policy.Task) (policy.Task, error) {
					task.Context = map[string]string{"n": strconv.Itoa(1 + count(task)), "by": strconv.Itoa(n)}
					return task, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, err := stores[1].GetTask(t.Context(), task.ID); err != nil || count(got) != workers*each {
		t.Errorf("got %d, %v; want %d", count(got), err, workers*each)
	}
}

func count(t policy.Task) int {
	n, _ := strconv.Atoi(t.Context["n"])
	return n
}

// However an ending races with what would go on: when both are done, the
// grant has ended or was never made.
func TestAnEndingWinsEveryRace(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 2)
	storetest.Publish(t, stores[0], storetest.Set())
	storetest.Await(t, stores[1], stores[0].Index().Revision())
	for n := range 20 {
		task := storetest.Task(t, stores[0])
		g := storetest.NewGrant(t, stores[0], task, storetest.ReadTicket, "OPS-"+strconv.Itoa(n+1))
		seen := stores[0].Index().Revision()
		var wg sync.WaitGroup
		var made, put error
		var floor int64
		wg.Go(func() {
			if _, made = stores[0].CreateGrants(t.Context(), seen, g); made == nil {
				_, put = stores[0].PutCredential(t.Context(), task.ID, sealed(g))
			}
		})
		wg.Go(func() {
			var err error
			if n%2 == 0 {
				floor, err = stores[1].RaiseFloor(t.Context(), policy.Scope{Kind: policy.ScopeAgent, Name: storetest.Agent})
			} else {
				_, floor, err = stores[1].ChangeTask(t.Context(), task.ID, end(stores[1], policy.EndRevoked))
			}
			if err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		storetest.Await(t, stores[0], floor)
		if h := held(stores[0], g); made == nil && !h.Raised() && h.Grant.State == policy.Active {
			t.Fatalf("round %d: an active grant is left", n)
		}
		if made != nil && !errors.Is(made, store.ErrFloor) && !errors.Is(made, store.ErrConflict) {
			t.Fatal(made)
		}
		if put != nil && !errors.Is(put, store.ErrFloor) && !errors.Is(put, store.ErrConflict) {
			t.Fatal(put)
		}
	}
}

func TestDropTaskLeavesNothing(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	if _, err := s.PutCredential(t.Context(), task.ID, sealed(g)); err != nil {
		t.Fatal(err)
	}
	if err := s.DropTask(t.Context(), task.ID); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("a task that has not ended: %v", err)
	}
	if _, _, err := s.ChangeGrant(t.Context(), task.ID, g.ID, endGrant(s, policy.EndRevoked)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndCompleted)); err != nil {
		t.Fatal(err)
	}
	if err := s.DropTask(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	_, err := s.Index().AwaitTask(t.Context(), task.ID, func(v *policy.TaskView) bool { return v == nil })
	if err != nil {
		t.Fatal(err)
	}
	if s.Index().TaskOfGrant(g.ID) != "" || len(s.Index().Instance(task.Instance)) != 0 {
		t.Error("the index still knows it")
	}
	if _, err := s.GetTask(t.Context(), task.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the task: %v", err)
	}
	if _, err := s.GetGrant(t.Context(), g.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the grant: %v", err)
	}
	if err := s.DropTask(t.Context(), task.ID); err != nil {
		t.Errorf("again: %v", err)
	}
}

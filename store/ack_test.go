package store_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

const authz = "authz"

// awaiting runs AwaitReplicas in the background.
func awaiting(t *testing.T, s *store.Store, rev int64) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	go func() { done <- s.AwaitReplicas(ctx, authz, rev) }()
	return done
}

func join(t *testing.T, s *store.Store) (leave func()) {
	t.Helper()
	leave, err := s.JoinReplica(t.Context(), authz)
	if err != nil {
		t.Fatal(err)
	}
	return leave
}

// still fails the test if done is over already; beats go by meanwhile.
func still(t *testing.T, s *store.Store, done <-chan error, why string) {
	t.Helper()
	for range 3 {
		if !s.Index().Fresh(t.Context()) {
			t.Fatal("stale")
		}
		select {
		case err := <-done:
			t.Fatalf("%s: returned %v", why, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestARevisionIsAcknowledgedOnlyWhenNoOlderCheckRuns(t *testing.T) {
	t.Parallel()
	for name, stores := range map[string]func() []*store.Store{
		"in the same process": func() []*store.Store { s := storetest.Open(t); return []*store.Store{s, s} },
		"in another process":  func() []*store.Store { return storetest.Cluster(t, 2) },
	} {
		t.Run(name, func(t *testing.T) {
			two := stores()
			checker, waiter := two[0], two[1]
			join(t, checker)
			task := storetest.Task(t, checker)

			check := checker.Index().Begin()
			_, rev, err := waiter.ChangeTask(t.Context(), task.ID, end(waiter, policy.EndCompleted))
			if err != nil {
				t.Fatal(err)
			}
			storetest.Await(t, checker, rev)
			done := awaiting(t, waiter, rev)
			still(t, waiter, done, "a check that began before the ending still runs")

			younger := checker.Index().Begin() // began after: nobody waits for it
			defer younger.Done()
			check.Done()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestEveryLiveReplicaIsAwaited(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 3)
	leaveFirst := join(t, stores[0])
	join(t, stores[1])
	api := stores[2]

	first, second := stores[0].Index().Begin(), stores[1].Index().Begin()
	rev, err := api.RaiseFloor(t.Context(), policy.Scope{Kind: policy.ScopeAgent, Name: storetest.Agent})
	if err != nil {
		t.Fatal(err)
	}
	done := awaiting(t, api, rev)
	second.Done()
	still(t, api, done, "the first replica did not acknowledge")
	// A replica that leaves is not awaited any more.
	leaveFirst()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	first.Done()
}

func TestWithNoLiveReplicaAwaitingWaits(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	done := awaiting(t, s, s.Index().Revision())
	still(t, s, done, "nobody has joined")
	join(t, s)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.AwaitReplicas(ctx, authz, s.Index().Revision()+1000); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A replica that lost its connection may answer until its last beat is too
// old. Only then is it not awaited.
func TestADeadReplicaIsAwaitedUntilItMustBeStale(t *testing.T) {
	t.Parallel()
	const staleness = time.Second
	e := startEtcd(t, storetest.Dir(t))
	f := newFaulty(e.Client())
	dead := openFaulty(t, f, "dead", staleness)
	api := openFaulty(t, newFaulty(e.Client()), "api", staleness)
	live := openFaulty(t, newFaulty(e.Client()), "live", staleness)
	join(t, dead)
	join(t, live)

	f.stall()
	f.setDown(true)
	rev, err := api.RaiseFloor(t.Context(), policy.Scope{Kind: policy.ScopeAll})
	if err != nil {
		t.Fatal(err)
	}
	if err := <-awaiting(t, api, rev); err != nil {
		t.Fatal(err)
	}
	if dead.Index().IsFresh() && dead.Index().Revision() < rev {
		t.Error("enforced, while a replica that has not applied it still answers")
	}
	f.resume()
	f.setDown(false)
}

func TestInstancesAcknowledgeAcrossProcesses(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 3)
	xds, other, api := stores[0], stores[1], stores[2]
	i := storetest.Instance
	ready := func(rev int64) func(store.InstanceAck, bool) bool {
		return func(a store.InstanceAck, ok bool) bool { return ok && a.Ready >= rev }
	}
	xds.AckInstance(store.InstanceAck{Instance: i, Ready: 1, Version: "1.40"})
	for n := int64(2); n < 50; n++ { // coalesced, and the last one counts
		xds.AckInstance(store.InstanceAck{Instance: i, Ready: n, Cut: n, Rejected: "no such filter", Version: "1.40"})
	}
	a, err := api.AwaitInstance(t.Context(), i, ready(49))
	if err != nil || a.Cut != 49 || a.Rejected == "" || a.Version != "1.40" || a.Instance != i {
		t.Fatalf("got %+v, %v", a, err)
	}
	if a, err := xds.AwaitInstance(t.Context(), i, ready(49)); err != nil || a.Ready != 49 {
		t.Fatalf("in the same process: %+v, %v", a, err)
	}

	// The sidecar connects to another process, and only then the first notices.
	other.AckInstance(store.InstanceAck{Instance: i, Ready: 60})
	if _, err := api.AwaitInstance(t.Context(), i, ready(60)); err != nil {
		t.Fatal(err)
	}
	xds.DropInstance(i)
	if _, err := xds.AwaitInstance(t.Context(), i, ready(60)); err != nil {
		t.Fatal(err)
	}
	if list := api.Instances(); len(list) != 1 || list[0].Ready != 60 {
		t.Errorf("instances are %+v", list)
	}

	other.DropInstance(i)
	for _, s := range stores {
		_, err := s.AwaitInstance(t.Context(), i, func(_ store.InstanceAck, ok bool) bool { return !ok })
		if err != nil {
			t.Fatal(err)
		}
	}
	if list := api.Instances(); len(list) != 0 {
		t.Errorf("instances are %+v", list)
	}
}

func TestWhatAProcessAcknowledgedGoesWithIt(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 2)
	stores[0].AckInstance(store.InstanceAck{Instance: storetest.Instance, Ready: 1})
	connected := func(_ store.InstanceAck, ok bool) bool { return ok }
	if _, err := stores[1].AwaitInstance(t.Context(), storetest.Instance, connected); err != nil {
		t.Fatal(err)
	}
	if err := stores[0].Close(); err != nil {
		t.Fatal(err)
	}
	gone := func(_ store.InstanceAck, ok bool) bool { return !ok }
	if _, err := stores[1].AwaitInstance(t.Context(), storetest.Instance, gone); err != nil {
		t.Fatal(err)
	}
}

func TestWaitersLearnThatTheStoreIsClosed(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	sub := s.Index().Subscribe()
	if _, err := sub.Next(t.Context()); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 3)
	go func() { errs <- s.AwaitReplicas(t.Context(), authz, 1) }()
	go func() { _, err := sub.Next(t.Context()); errs <- err }()
	go func() {
		_, err := s.Index().AwaitTask(t.Context(), "t_none", func(v *policy.TaskView) bool { return v != nil })
		errs <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for range cap(errs) {
		if err := <-errs; !errors.Is(err, store.ErrClosed) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := s.CreateTask(t.Context(), storetest.NewTask(s.Now())); !errors.Is(err, store.ErrClosed) {
		t.Errorf("a task after Close: %v", err)
	}
}

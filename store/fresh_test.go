package store_test

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

func TestAnIdleSystemStaysFresh(t *testing.T) {
	t.Parallel()
	const staleness = 400 * time.Millisecond
	s := storetest.Open(t, storetest.WithStaleness(staleness))
	for end := time.Now().Add(4 * staleness); time.Now().Before(end); time.Sleep(staleness / 10) {
		if !s.Index().Fresh(t.Context()) {
			t.Fatal("nothing happened, and the index went stale")
		}
	}
}

func TestAStalledWatchGoesStaleAndComesBack(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, storetest.Dir(t))
	f := newFaulty(e.Client())
	s := openFaulty(t, f, "stalled", 300*time.Millisecond)
	other := openFaulty(t, newFaulty(e.Client()), "other", time.Second)
	task := storetest.Task(t, other)
	storetest.Await(t, s, other.Index().Revision())

	f.stall()
	_, rev, err := other.ChangeTask(t.Context(), task.ID, end(other, policy.EndCompleted))
	if err != nil {
		t.Fatal(err)
	}
	// Its beats are written, but do not come back.
	eventually(t, "the stalled replica is stale", func() bool { return !s.Index().Fresh(t.Context()) })
	if v := s.Index().Task(task.ID); v.Task.State != policy.Active {
		t.Fatal("the watch was not stalled at all")
	}
	if s.Index().Fresh(t.Context()) {
		t.Error("a stale replica became fresh with nothing seen")
	}

	f.resume()
	eventually(t, "the replica is fresh again", func() bool { return s.Index().Fresh(t.Context()) })
	if s.Index().Revision() < rev || s.Index().Task(task.ID).Task.State != policy.Ended {
		t.Error("it is fresh without showing what happened meanwhile")
	}
}

// Whatever stalls and breaks: who is fresh shows all that was done before the
// staleness bound.
func TestFreshMeansNoOlderThanTheBound(t *testing.T) {
	t.Parallel()
	const staleness = 200 * time.Millisecond
	e := startEtcd(t, storetest.Dir(t))
	f := newFaulty(e.Client())
	s := openFaulty(t, f, "followed", staleness)
	writer := openFaulty(t, newFaulty(e.Client()), "writer", time.Second)
	task := storetest.Task(t, writer)

	type done struct {
		rev int64
		at  time.Time
	}
	var last atomic.Pointer[done] // older than the bound
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		var history []done
		for n := 0; ctx.Err() == nil; n++ {
			_, rev, err := writer.ChangeTask(ctx, task.ID, func(t policy.Task) (policy.Task, error) {
				t.Context = map[string]string{"n": string(rune('a' + n%26))}
				return t, nil
			})
			if err == nil {
				history = append(history, done{rev, time.Now()})
			}
			for len(history) > 0 && time.Since(history[0].at) > staleness {
				last.Store(&history[0])
				history = history[1:]
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	go func() { // a watch that stands still, runs and breaks
		for n := 0; ctx.Err() == nil; n++ {
			f.stall()
			time.Sleep(time.Duration(50+n*37%300) * time.Millisecond)
			f.resume()
			time.Sleep(60 * time.Millisecond)
			if n%3 == 0 {
				f.breakWatches()
			}
		}
	}()
	fresh, stale := 0, 0
	for ctx.Err() == nil {
		must := last.Load()
		if !s.Index().IsFresh() {
			stale++
		} else if fresh++; must != nil && s.Index().Revision() < must.rev {
			t.Fatalf("fresh at revision %d, but %d is older than the bound", s.Index().Revision(), must.rev)
		}
		time.Sleep(200 * time.Microsecond)
	}
	<-stopped
	if fresh == 0 || stale == 0 {
		t.Errorf("saw %d fresh and %d stale moments; want both", fresh, stale)
	}
}

func TestAStoreThatCannotBeReachedGoesStale(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, storetest.Dir(t))
	f := newFaulty(e.Client())
	s := openFaulty(t, f, "cut off", 200*time.Millisecond)
	f.setDown(true)
	eventually(t, "stale", func() bool { return !s.Index().Fresh(t.Context()) })
	f.setDown(false)
	eventually(t, "fresh again", func() bool { return s.Index().Fresh(t.Context()) })
}

func TestAnotherClusterIsAnotherHistory(t *testing.T) {
	t.Parallel()
	a, b := startEtcd(t, storetest.Dir(t)), startEtcd(t, storetest.Dir(t))
	f := newFaulty(a.Client())
	s := openFaulty(t, f, "replica", 300*time.Millisecond)
	task := storetest.Task(t, s)
	openFaulty(t, newFaulty(b.Client()), "other", time.Second)
	sub := s.Index().Subscribe()
	defer sub.Close()
	if _, err := sub.Next(t.Context()); err != nil {
		t.Fatal(err)
	}

	before := s.State()
	f.exchange(b.Client())
	eventually(t, "the other cluster's state", func() bool { return s.State().Cluster != before.Cluster })
	if s.Index().Task(task.ID) != nil {
		t.Error("a task of the other cluster is still there")
	}
	if batch, err := sub.Next(t.Context()); err != nil || !batch.All {
		t.Errorf("the batch was %+v, %v; want All", batch, err)
	}
	eventually(t, "fresh again", func() bool { return s.Index().Fresh(t.Context()) })
}

// A snapshot put back under the same cluster ID: the revision steps back.
func TestARestoredStoreIsRebuilt(t *testing.T) {
	t.Parallel()
	dir, copied := storetest.Dir(t), storetest.Dir(t)
	old := startEtcd(t, dir)
	kept := func() policy.Task {
		s := openFaulty(t, newFaulty(old.Client()), "first", time.Second)
		defer s.Close()
		return storetest.Task(t, s)
	}()
	old.Close()
	if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}

	now := startEtcd(t, dir)
	f := newFaulty(now.Client())
	s := openFaulty(t, f, "second", 300*time.Millisecond)
	for range 200 { // far ahead of the copy, so that a few beats do not catch up
		if _, err := s.Bucket("filler").Swap(t.Context(), "k", revisionOf(t, s, "k"), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	lost := storetest.Task(t, s)
	if _, _, err := s.ChangeTask(t.Context(), kept.ID, end(s, policy.EndFailed)); err != nil {
		t.Fatal(err)
	}
	before := s.State()

	restored := startEtcd(t, copied)
	f.exchange(restored.Client())
	eventually(t, "the restored state", func() bool { return s.Index().Task(lost.ID) == nil })
	if now := s.State(); now.Cluster != before.Cluster || now.Revision >= before.Revision {
		t.Fatalf("the test is not what it says: %+v then %+v", before, now)
	}
	eventually(t, "fresh again", func() bool { return s.Index().Fresh(t.Context()) })

	// What the audit log's heads vouch for tells it for restored at Open: all
	// that was made before ends.
	again, err := store.Open(t.Context(), store.Config{Client: restored.Client(), Replica: "third", Seen: before})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if again.State().Epoch == before.Epoch {
		t.Error("the restore began no new epoch")
	}
	if f := again.Index().Floor(policy.Scope{Kind: policy.ScopeAll}); f.Revision() == 0 {
		t.Error("the restore ended nothing")
	}
}

func revisionOf(t *testing.T, s *store.Store, key string) int64 {
	t.Helper()
	list, err := s.Bucket("filler").List(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(list) == 0 {
		return 0
	}
	return list[0].Revision
}

// end ends a task by the one state machine.
func end(s *store.Store, reason policy.EndReason) func(policy.Task) (policy.Task, error) {
	return func(t policy.Task) (policy.Task, error) {
		var err error
		t.Life, err = policy.Transition(t.Life, policy.End(reason), s.Now())
		return t, err
	}
}

func endGrant(s *store.Store, reason policy.EndReason) func(policy.Grant) (policy.Grant, error) {
	return func(g policy.Grant) (policy.Grant, error) {
		var err error
		g.Life, err = policy.Transition(g.Life, policy.End(reason), s.Now())
		return g, err
	}
}

package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Not parallel: allocations of other tests would count.
func TestReadsOfTheIndexDoNotAllocate(t *testing.T) {
	s, task := opened(t, storetest.WithStaleness(30*time.Second))
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	x, ctx := s.Index(), t.Context()
	var sink any
	for name, fn := range map[string]func(){
		"Task":         func() { sink = x.Task(task.ID) },
		"an absent":    func() { sink = x.Task("t_none") },
		"TaskOfGrant":  func() { _ = x.TaskOfGrant(g.ID) },
		"Catalog":      func() { sink = x.Catalog() },
		"Fresh":        func() { _ = x.Fresh(ctx) },
		"Begin, Done":  func() { x.Begin().Done() },
		"Raised":       func() { _ = x.Task(task.ID).Held[0].Raised() },
		"Revision":     func() { _ = x.Revision() },
		"the time now": func() { _ = s.Now() },
	} {
		// A background goroutine may allocate meanwhile; a read that does
		// would do so every time.
		if n := testing.AllocsPerRun(2000, fn); n >= 0.5 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
	_ = sink
}

func TestANewCatalogResolvesGrantsAnew(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	read, edit := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1"), storetest.Grant(t, s, task, storetest.EditTicket, "OPS-1")
	source, err := policy.EncodeSet(storetest.Set())
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.PublishCatalog(t.Context(), source)
	if err != nil || first > s.Index().Revision() {
		t.Fatalf("publishing what is in force gave revision %d, %v", first, err)
	}

	set := storetest.Set()
	set.Capabilities[0].Spec.Calls[0].Path = "/v2/tickets/${ticket}"
	cat := storetest.Publish(t, s, set)
	if cat.Revision() == read.Catalog {
		t.Fatal("the catalog is the same")
	}
	if held(s, read).Resolved != nil {
		t.Error("a grant is served under a catalog that would give another one")
	}
	if h := held(s, edit); h.Resolved == nil || h.Resolved.Digest != edit.Digest {
		t.Error("a grant that would be the same is not served")
	}
	storetest.Publish(t, s, storetest.Set())
	if held(s, read).Resolved == nil {
		t.Error("the old catalog is back, the grant is not")
	}
	if _, err := s.PublishCatalog(t.Context(), []byte("no catalog")); err == nil {
		t.Error("what is no catalog was published")
	}
}

func TestGrantsOfTheSameShareWhatIsResolved(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	a, b := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1"), storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	if held(s, a).Resolved != held(s, b).Resolved {
		t.Error("two grants of the same hold two of it")
	}
}

func TestASubscriberIsToldWhatChanged(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	sub := s.Index().Subscribe()
	defer sub.Close()
	if b, err := sub.Next(t.Context()); err != nil || !b.All || b.Revision != s.Index().Revision() {
		t.Fatalf("first batch %+v, %v", b, err)
	}
	one, two := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1"), storetest.Task(t, s)
	b, err := sub.Next(t.Context())
	if err != nil || b.All || b.Revision != s.Index().Revision() {
		t.Fatalf("batch %+v, %v", b, err)
	}
	if _, ok := b.Tasks[one.Task]; !ok || len(b.Tasks) != 2 {
		t.Errorf("tasks %v; want %s and %s", b.Tasks, one.Task, two.ID)
	}
	if _, ok := b.Instances[task.Instance]; !ok {
		t.Errorf("instances %v", b.Instances)
	}
	if _, err := s.RaiseFloor(t.Context(), policy.Scope{Kind: policy.ScopeAll}); err != nil {
		t.Fatal(err)
	}
	if b, err := sub.Next(t.Context()); err != nil || !b.All {
		t.Errorf("after a floor of all: %+v, %v", b, err)
	}
	sub.Close()
	if _, err := sub.Next(t.Context()); !errors.Is(err, store.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAnInstancesTasksAreListedInOrder(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	var want []policy.TaskID
	for range 5 {
		want = append(want, storetest.Task(t, s).ID)
	}
	slices.Sort(want)
	var got []policy.TaskID
	for _, v := range s.Index().Instance(storetest.Instance) {
		got = append(got, v.Task.ID)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s.Index().Instance("spiffe://example.org/sidecar/other") != nil && len(s.Index().Instance("spiffe://example.org/sidecar/other")) != 0 {
		t.Error("an instance without tasks has some")
	}
	n := 0
	s.Index().EachTask(func(*policy.TaskView) bool { n++; return n < 3 })
	if n != 3 {
		t.Errorf("visited %d after being told to stop at 3", n)
	}
}

// A record of a later program, or of none: what it stands for is denied.
func TestARecordThatCannotBeReadIsDenied(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, storetest.Dir(t))
	s := openFaulty(t, newFaulty(e.Client()), "replica", time.Second)
	storetest.Publish(t, s, storetest.Set())
	task := storetest.Task(t, s)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")

	key := "/exeat/v1/a/grant/" + string(task.ID) + "/" + string(g.ID)
	rewrite(t, s, e.Client(), key, func(b []byte) []byte { return append(b, 8, 99) }) // version: the last one counts
	if held(s, g) != nil {
		t.Error("a grant of an unknown version is served")
	}
	if _, _, err := s.ChangeGrant(t.Context(), task.ID, g.ID, endGrant(s, policy.EndRevoked)); !errors.Is(err, store.ErrRecord) {
		t.Errorf("changing it: %v", err)
	}
	other := storetest.Task(t, s)
	rewrite(t, s, e.Client(), "/exeat/v1/a/task/"+string(task.ID), func([]byte) []byte { return []byte("\xff\xff") })
	if v := s.Index().Task(task.ID); v != nil {
		t.Errorf("a task that cannot be read is served: %+v", v)
	}
	// A record that was put in another's place.
	rewrite(t, s, e.Client(), "/exeat/v1/a/task/"+string(other.ID), func(b []byte) []byte {
		return bytes.ReplaceAll(b, []byte(other.ID), []byte(task.ID))
	})
	if v := s.Index().Task(other.ID); v != nil {
		t.Errorf("a task with another's record is served: %+v", v)
	}
	rewrite(t, s, e.Client(), "/exeat/v1/a/catalog", func(b []byte) []byte { return b[:len(b)/2] })
	if s.Index().Catalog() != nil {
		t.Error("a catalog that cannot be read is in force")
	}
}

func rewrite(t *testing.T, s *store.Store, c *clientv3.Client, key string, fn func([]byte) []byte) {
	t.Helper()
	r, err := c.Get(t.Context(), key)
	if err != nil || len(r.Kvs) != 1 {
		t.Fatalf("%s: %v %v", key, r, err)
	}
	p, err := c.Put(t.Context(), key, string(fn(r.Kvs[0].Value)))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, p.Header.Revision)
}

// A watch that fell behind a compaction starts over with everything.
func TestABrokenWatchLoadsAnew(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, storetest.Dir(t))
	f := newFaulty(e.Client())
	s := openFaulty(t, f, "behind", 300*time.Millisecond)
	writer := openFaulty(t, newFaulty(e.Client()), "writer", time.Second)
	storetest.Publish(t, writer, storetest.Set())
	kept, dropped := storetest.Task(t, writer), storetest.Task(t, writer)
	g := storetest.Grant(t, writer, kept, storetest.ReadTicket, "OPS-1")
	storetest.Await(t, s, writer.Index().Revision())
	sub := s.Index().Subscribe()
	defer sub.Close()
	if _, err := sub.Next(t.Context()); err != nil {
		t.Fatal(err)
	}

	f.stall()
	if _, _, err := writer.ChangeTask(t.Context(), dropped.ID, end(writer, policy.EndCompleted)); err != nil {
		t.Fatal(err)
	}
	if err := writer.DropTask(t.Context(), dropped.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Client().Compact(t.Context(), writer.Index().Revision(), clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	f.breakWatches()
	f.resume()
	eventually(t, "the task is gone", func() bool { return s.Index().Task(dropped.ID) == nil })
	if b, err := sub.Next(t.Context()); err != nil || !b.All {
		t.Errorf("the batch is %+v, %v; want All", b, err)
	}
	if h := held(s, g); h == nil || h.Resolved == nil {
		t.Errorf("the grant that stayed is %+v", h)
	}
	eventually(t, "fresh", func() bool { return s.Index().Fresh(t.Context()) })
}

// Readers look on while everything changes; run with -race.
func TestReadersLookOnWhileTasksComeAndGo(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				check := s.Index().Begin()
				if v := s.Index().Task(task.ID); v != nil {
					for _, h := range v.Held {
						if h.Raised() || h.MadeAt == 0 || len(h.Floors) == 0 {
							t.Error("a view shows half a grant")
						}
					}
				}
				s.Index().EachTask(func(v *policy.TaskView) bool { return v.Task.ID != "" })
				check.Done()
			}
		})
	}
	for n := range 40 {
		other := storetest.Task(t, s)
		storetest.Grant(t, s, task, storetest.ReadTicket, fmt.Sprintf("OPS-%d", n+1))
		if _, _, err := s.ChangeTask(t.Context(), other.ID, end(s, policy.EndCompleted)); err != nil {
			t.Error(err)
		}
		if err := s.DropTask(t.Context(), other.ID); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	readers.Wait()
}

package store_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// wall is a wall clock that a test sets.
type wall struct{ at atomic.Int64 }

func (w *wall) set(t time.Time)     { w.at.Store(t.UnixNano()) }
func (w *wall) add(d time.Duration) { w.at.Add(int64(d)) }
func (w *wall) now() time.Time      { return time.Unix(0, w.at.Load()).UTC() }

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func TestTimeNeverGoesBack(t *testing.T) {
	t.Parallel()
	w := new(wall)
	w.set(noon)
	s := storetest.Open(t, storetest.WithWall(w.now))
	w.add(time.Hour)
	before := s.Now()
	if before.Before(noon.Add(time.Hour)) {
		t.Fatalf("the wall clock goes, the store's stays at %v", before)
	}
	w.add(-2 * time.Hour)
	if now := s.Now(); now.Before(before) {
		t.Errorf("it went back to %v", now)
	}
}

// Grants that had expired stay expired, though the clock was set back while
// nothing ran.
func TestARestartWithTheClockSetBackGoesOnFromStoreTime(t *testing.T) {
	t.Parallel()
	dir, w := storetest.Dir(t), new(wall)
	w.set(noon)
	s := storetest.Open(t, storetest.WithDir(dir), storetest.WithWall(w.now))
	storetest.Publish(t, s, storetest.Set())
	task := storetest.Task(t, s)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	w.add(10 * time.Minute)
	if held(s, g).Grant.Live(s.Now()) {
		t.Fatal("the grant has not expired")
	}
	seen := s.Index().Revision()
	eventually(t, "a beat with the later time", func() bool { return s.Index().Revision() > seen+1 })
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	w.set(noon.Add(-24 * time.Hour))
	again, err := store.Open(t.Context(), store.Config{Dir: dir, Replica: "another name", Wall: w.now})
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if now := again.Now(); now.Before(noon.Add(10 * time.Minute)) {
		t.Errorf("the time is %v", now)
	}
	if held(again, g).Grant.Live(again.Now()) {
		t.Error("the expired grant is live again")
	}
}

func TestReplicasShareTheLatestTime(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, storetest.Dir(t))
	ahead := new(wall)
	ahead.set(time.Now().Add(time.Hour))
	slow := openFaulty(t, newFaulty(e.Client()), "slow", time.Second)
	fast, err := store.Open(t.Context(), store.Config{Client: e.Client(), Replica: "fast", Wall: ahead.now})
	if err != nil {
		t.Fatal(err)
	}
	defer fast.Close()
	eventually(t, "the other's time", func() bool { return slow.Now().After(time.Now().Add(50 * time.Minute)) })
}

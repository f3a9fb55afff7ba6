package store

import (
	"sync"
	"sync/atomic"
	"testing"
)

func TestAPhaseDrainsWhenItsOwnChecksAreDone(t *testing.T) {
	t.Parallel()
	c := newChecks()
	older := c.begin()
	c.close(1)
	younger := c.begin()
	c.close(2)
	if rev, ok := c.drained(); ok {
		t.Fatalf("%d is drained while an older check runs", rev)
	}
	older.Done()
	if rev, ok := c.drained(); !ok || rev != 1 {
		t.Fatalf("drained %d, %v; want 1", rev, ok)
	}
	younger.Done()
	if rev, ok := c.drained(); !ok || rev != 2 {
		t.Fatalf("drained %d, %v; want 2", rev, ok)
	}
	if _, ok := c.drained(); ok {
		t.Error("drained again with nothing new")
	}
	Check{}.Done() // the zero Check is of nothing
}

func TestPhasesRunOutAndComeBack(t *testing.T) {
	t.Parallel()
	c := newChecks()
	running := c.begin()
	n := int64(0)
	for c.close(n + 1) {
		n++
	}
	if n != phases-1 {
		t.Errorf("%d phases; want %d", n, phases-1)
	}
	running.Done()
	if rev, ok := c.drained(); !ok || rev != n {
		t.Errorf("drained %d, %v; want %d", rev, ok, n)
	}
	if !c.close(n + 1) {
		t.Error("no phase is free after all were drained")
	}
}

// A revision is never drained while a check runs that may have read less.
func TestNoCheckOutlivesItsPhase(t *testing.T) {
	t.Parallel()
	c := newChecks()
	var applied, drained atomic.Int64
	stop := make(chan struct{})
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				check := c.begin()
				read := applied.Load()
				for range 20 {
					if d := drained.Load(); d > read {
						t.Errorf("drained %d while a check runs that read %d", d, read)
					}
				}
				check.Done()
			}
		})
	}
	for rev := int64(1); rev <= 3000; rev++ {
		applied.Store(rev)
		c.close(rev)
		if d, ok := c.drained(); ok {
			drained.Store(d)
		}
	}
	close(stop)
	running.Wait()
}

func BenchmarkCheck(b *testing.B) {
	c := newChecks()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			c.begin().Done()
		}
	})
}

package store

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// holdFor is how long a check is held for the next beat before it is denied.
const holdFor = 250 * time.Millisecond

// freshness says until when this replica may answer. Age is measured by both
// clocks and the larger counts: the monotonic one stands still while a machine
// sleeps, the wall clock may be set back.
type freshness struct {
	start time.Time // carries the monotonic reading
	bound time.Duration
	mono  atomic.Int64 // fresh before this, ns since start
	wall  atomic.Int64 // and before this, ns since the epoch
	// broken: the index is of another history than the store; nothing is fresh
	// until it was rebuilt.
	broken atomic.Bool
	kick   chan struct{} // asks for a beat now
	moved  broadcast
	closed <-chan struct{}
}

func (f *freshness) fresh() bool {
	now := time.Now()
	return int64(now.Sub(f.start)) < f.mono.Load() && now.UnixNano() < f.wall.Load() && !f.broken.Load()
}

// proven: a beat that was sent then has come back.
func (f *freshness) proven(sent time.Time) {
	f.mono.Store(int64(sent.Add(f.bound).Sub(f.start)))
	f.wall.Store(sent.UnixNano() + int64(f.bound))
	f.moved.send()
}

// expire makes the replica stale until the next proof.
func (f *freshness) expire() {
	f.mono.Store(0)
	f.wall.Store(0)
}

// age is the time since the sending of the latest beat that came back.
func (f *freshness) age() time.Duration {
	return time.Since(f.start) - time.Duration(f.mono.Load()) + f.bound
}

// await returns when fresh, or with an error.
func (f *freshness) await(ctx context.Context) error { return f.until(ctx, f.fresh) }

// awaitSince returns when the index shows all that was in the store at t.
func (f *freshness) awaitSince(ctx context.Context, t time.Time) error {
	want := int64(t.Add(f.bound).Sub(f.start))
	return f.until(ctx, func() bool { return f.mono.Load() >= want && !f.broken.Load() })
}

// until asks for beats until cond holds.
func (f *freshness) until(ctx context.Context, cond func() bool) error {
	for {
		moved := f.moved.wait()
		if cond() {
			return nil
		}
		select { // a beat on its way is enough; one more does no harm
		case f.kick <- struct{}{}:
		default:
		}
		select {
		case <-moved:
		case <-f.closed:
			return ErrClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// broadcast wakes everybody who waits.
type broadcast struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait gives a channel that the next send closes. Take it before looking at
// what is waited for.
func (b *broadcast) wait() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch == nil {
		b.ch = make(chan struct{})
	}
	return b.ch
}

func (b *broadcast) send() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ch != nil {
		close(b.ch)
		b.ch = nil
	}
}

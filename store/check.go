package store

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync/atomic"
)

// checks counts the running checks in two phases, as sleepable RCU does: a
// check is counted in the phase that was current when it began, and to wait
// for all older checks is to change the phase and wait until the old one's
// count is nothing. Counting takes no lock and does not allocate.
type checks struct {
	epoch   atomic.Uint64
	waiting atomic.Bool   // somebody waits for a count to fall
	fell    chan struct{} // holds one
	count   [2][]counter  // by phase, then spread over processors
}

// counter stands alone on its cache lines.
type counter struct {
	n atomic.Int64
	_ [120]byte
}

func newChecks() *checks {
	size := 1
	for size < 2*runtime.GOMAXPROCS(0) {
		size *= 2
	}
	return &checks{fell: make(chan struct{}, 1), count: [2][]counter{make([]counter, size), make([]counter, size)}}
}

// Check is a running check.
type Check struct {
	of *checks
	at *counter
}

// Begin marks the start of a check, which then reads nothing older than the
// current revision; the replica acknowledges a revision only when no check
// that began before it was applied still runs. Done must be called, once.
func (x *Index) Begin() Check { return x.checks.begin() }

func (c *checks) begin() Check {
	for {
		e := c.epoch.Load()
		phase := c.count[e&1]
		at := &phase[rand.Uint32()&uint32(len(phase)-1)]
		at.n.Add(1)
		// Only a check that is counted while its phase is still current is
		// waited for; one that came late counts again.
		if c.epoch.Load() == e {
			return Check{c, at}
		}
		Check{c, at}.Done()
	}
}

// Done ends the check.
func (c Check) Done() {
	if c.at == nil {
		return
	}
	c.at.n.Add(-1)
	if c.of.waiting.Load() {
		select {
		case c.of.fell <- struct{}{}:
		default:
		}
	}
}

// drain returns when every check that began before the call is done, or with
// ctx's error. One goroutine at a time.
func (c *checks) drain(ctx context.Context) error {
	old := c.count[(c.epoch.Add(1)-1)&1]
	c.waiting.Store(true)
	defer c.waiting.Store(false)
	for !idle(old) {
		select {
		case <-c.fell:
		case <-ctx.Done():
			return ctx.Err() // the store closes; nobody drains after this
		}
	}
	return nil
}

func idle(phase []counter) bool {
	for i := range phase {
		if phase[i].n.Load() != 0 {
			return false
		}
	}
	return true
}

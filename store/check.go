package store

import (
	"math/rand/v2"
	"runtime"
	"sync/atomic"
)

// phases is how many revisions can wait for their older checks at once; a
// power of two. When all are taken, later revisions are acknowledged together.
const phases = 16

// checks counts the running checks by phase, in the manner of sleepable RCU: a
// check is counted in the phase that was current when it began. Each revision
// that is to be acknowledged closes a phase and opens the next; it is
// acknowledged when its phase and all before are empty. Counting takes no lock
// and does not allocate.
type checks struct {
	epoch   atomic.Uint64     // the current phase, counted from the start
	count   [phases][]counter // by phase, then spread over processors
	waiting atomic.Bool       // a closed phase is not empty
	fell    chan struct{}     // holds one: a count fell meanwhile

	// The rest is the acknowledging goroutine's.
	tail uint64        // the oldest closed phase that may not be empty
	mark [phases]int64 // the revision that closed a phase
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
	c := &checks{fell: make(chan struct{}, 1)}
	for i := range c.count {
		c.count[i] = make([]counter, size)
	}
	return c
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
		phase := c.count[e%phases]
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

// close closes the current phase for rev; false when no phase is free.
func (c *checks) close(rev int64) bool {
	e := c.epoch.Load()
	if e-c.tail >= phases-1 {
		return false
	}
	c.mark[e%phases] = rev
	c.epoch.Store(e + 1)
	return true
}

// drained gives the revision of the latest phase that is closed and empty
// with all before it; ok is false when there is no new one.
func (c *checks) drained() (rev int64, ok bool) {
	c.waiting.Store(true) // before looking, so that no fall is missed
	for c.tail != c.epoch.Load() {
		if !idle(c.count[c.tail%phases]) {
			return rev, ok
		}
		rev, ok = c.mark[c.tail%phases], true
		c.tail++
	}
	c.waiting.Store(false)
	return rev, ok
}

func idle(phase []counter) bool {
	for i := range phase {
		if phase[i].n.Load() != 0 {
			return false
		}
	}
	return true
}

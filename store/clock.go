package store

import (
	"sync/atomic"
	"time"
)

// clock is max(wall clock, last store time + monotonic elapsed). Store time
// travels in beats, which survive this process: a machine whose clock was set
// back does not bring expired grants back to life.
type clock struct {
	wall   func() time.Time
	start  time.Time // carries the monotonic reading that elapsed counts from
	base   atomic.Pointer[anchor]
	latest atomic.Int64 // what was answered last, ns since the epoch
}

// anchor is a store time and when, by the monotonic clock, it was seen.
type anchor struct{ store, seen int64 }

func newClock(wall func() time.Time) *clock {
	return &clock{wall: wall, start: time.Now()}
}

func (c *clock) elapsed() int64 { return int64(time.Since(c.start)) }

func (a *anchor) at(elapsed int64) int64 {
	if a == nil {
		return 0
	}
	return a.store + elapsed - a.seen
}

func (c *clock) now() time.Time {
	v := max(c.wall().UnixNano(), c.base.Load().at(c.elapsed()))
	for {
		last := c.latest.Load()
		if v <= last {
			return time.Unix(0, last).UTC()
		}
		if c.latest.CompareAndSwap(last, v) {
			return time.Unix(0, v).UTC()
		}
	}
}

// saw takes in a store time; an older one changes nothing. Only the goroutine
// that applies the watch calls it.
func (c *clock) saw(store int64) {
	e := c.elapsed()
	if store > c.base.Load().at(e) {
		c.base.Store(&anchor{store, e})
	}
}

package audit

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// The states of a decision between its caller and the writer.
const (
	entryWaiting   = iota
	entryAnswered  // the writer answered
	entryAbandoned // the caller could not wait longer, and denied
	entryLeft      // the caller was no longer asked: there is no call to deny
)

// entry is one record on its way to the writer.
type entry struct {
	kind  recordType
	enc   encoder // from inside "unmapped" to before the line's last brace
	note  note
	store int64

	// Of decisions alone.
	id    string
	done  chan error // takes one answer
	state atomic.Int32
	timer *time.Timer
}

var entries = sync.Pool{New: func() any {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return &entry{done: make(chan error, 1), timer: t}
}}

// newDecision encodes d in the caller's time, into a pooled buffer.
func newDecision(d *Decision) *entry {
	e := entries.Get().(*entry)
	e.kind, e.id, e.store = typeDecision, d.ID, d.Store
	e.enc.b = e.enc.b[:0]
	e.state.Store(entryWaiting)
	e.enc.decision(d)
	e.note = note{task: d.Task, reason: d.Reason}
	if d.Reason != policy.Allowed {
		e.note.denial = denialOf(d)
	}
	return e
}

// denialOf copies what the agent may know; it outlives d.
func denialOf(d *Decision) *Denial {
	return &Denial{
		ID: d.ID, Time: d.Time, Reason: d.Reason, Method: clip(d.Call.Method), URL: clip(urlOf(&d.Call)),
		Destination: d.Destination, Capability: d.Capability, Next: d.Next,
	}
}

// clip copies a bounded part of what an agent sent: a ring of denials must not
// hold on to whole requests.
func clip(s string) string { return strings.Clone(s[:min(len(s), maxPath)]) }

// free returns a decision's entry to the pool; nobody else may hold it.
func (e *entry) free() {
	e.timer.Stop()
	e.note = note{}
	entries.Put(e)
}

// newEntry begins a record that nobody waits for. These live as long as the
// disk is slow, so they are not pooled.
func newEntry(kind recordType) *entry { return &entry{kind: kind} }

// Bounds, in bytes, on what waits in memory while the disk does not work. What
// is lost of the first kind can be had from the store again.
const (
	maxKept     = 64 << 20 // transitions, credentials
	maxOutcomes = 16 << 20 // the rest
)

// later is the lane of records that nobody waits for.
type later struct {
	kick  chan struct{} // of one: there is something
	limit int           // bytes of transitions and credentials; maxKept

	mu     sync.Mutex
	queue  []*entry
	kept   int // bytes
	others int // bytes
	lost   int // since the last gap record
	states int // transitions among the lost
}

// push adds a record unless there is no room, and reports whether it did.
func (q *later) push(e *entry) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	size, limit := q.room(e.kind)
	if *size+len(e.enc.b) > limit {
		q.lost++
		if e.kind == typeTransition {
			q.states++
		}
		return false
	}
	*size += len(e.enc.b)
	q.queue = append(q.queue, e)
	select {
	case q.kick <- struct{}{}:
	default:
	}
	return true
}

// room gives the account that a record of a kind is on. Outcomes have one of
// their own: a flood of calls must not push out an ending.
func (q *later) room(kind recordType) (size *int, limit int) {
	if kind == typeTransition || kind == typeCredential {
		return &q.kept, q.limit
	}
	return &q.others, maxOutcomes
}

// peek gives up to n records, which stay until drop.
func (q *later) peek(batch []*entry, n int) []*entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	return append(batch, q.queue[:min(n, len(q.queue))]...)
}

// drop forgets the first n records.
func (q *later) drop(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, e := range q.queue[:n] {
		size, _ := q.room(e.kind)
		*size -= len(e.enc.b)
		q.queue[i] = nil
	}
	q.queue = q.queue[n:]
	if len(q.queue) == 0 {
		q.queue = nil // let a long backlog's memory go
	}
}

// waiting tells how many records wait, and how many were lost.
func (q *later) waiting() (records, lost, states int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.queue), q.lost, q.states
}

// told takes off the losses that a gap record told of.
func (q *later) told(lost, states int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lost -= lost
	q.states -= states
}

// gapList holds gaps until someone fills them from the store.
type gapList struct {
	mu   sync.Mutex
	gaps []Gap
}

const maxGaps = 64

// add notes a gap to be filled from the store.
func (g *gapList) add(gap Gap) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.gaps) == maxGaps {
		// Two in one: the later one's window now begins with the earlier one's.
		last := &g.gaps[maxGaps-1]
		last.Until, last.Lost = gap.Until, last.Lost+gap.Lost
		return
	}
	g.gaps = append(g.gaps, gap)
}

func (g *gapList) take() []Gap {
	g.mu.Lock()
	defer g.mu.Unlock()
	gaps := g.gaps
	g.gaps = nil
	return gaps
}

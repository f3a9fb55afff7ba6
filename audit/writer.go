package audit

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Bounds on one batch, and how soon a disk that failed is tried again.
const (
	maxBatch    = 512
	maxLater    = 256
	tryAgain    = 200 * time.Millisecond
	maxAttempts = 3 // of the writer that is closing
)

// outage is what the writer remembers of a disk that does not work.
type outage struct {
	since  time.Time // zero: none
	denied int
}

// run is the writer: the only one who writes records and moves the chain. What
// came in while it wrote becomes the next batch: one write, and with Sync one
// fsync, for all of it.
func (l *Log) run() {
	defer close(l.stopped)
	w := writer{Log: l, retry: time.NewTicker(tryAgain)}
	defer w.retry.Stop()
	for w.gather() {
		w.commit()
	}
	w.finish()
}

// writer is what one round of run works with.
type writer struct {
	*Log
	retry *time.Ticker
	down  outage
	batch []*entry // later ones first, then decisions
	kept  int      // how many of batch are in the lane for later
	lines []byte
	// overfull: the segment is past its size, and no next one can be made.
	overfull bool
}

// gather fills the batch and waits until there is something in it; false when
// the log is closing.
func (w *writer) gather() bool {
	w.batch, w.kept = w.batch[:0], 0
	select {
	case e := <-w.decisions:
		w.take(e)
	case <-w.later.kick:
	case <-w.retry.C:
	case <-w.closing:
		return false
	}
	w.fill()
	return true
}

// fill takes what else is there. A record that nobody waits for was handed over
// before any decision now waiting, or at the same time: it goes first.
func (w *writer) fill() {
	decisions := len(w.batch)
	for drained := false; !drained && decisions < maxBatch; {
		select {
		case e := <-w.decisions:
			w.take(e)
			decisions = len(w.batch)
		default:
			drained = true
		}
	}
	waiting := w.later.peek(nil, maxLater)
	w.kept = len(waiting)
	w.batch = append(waiting, w.batch...)
}

// take adds a decision unless its caller has left: that call was denied, and
// must not be recorded as allowed.
func (w *writer) take(e *entry) {
	switch e.state.Load() {
	case entryLeft:
	case entryAbandoned:
		w.unwritten(1)
	default:
		w.batch = append(w.batch, e)
	}
}

// unwritten counts decisions that were denied for want of a record.
func (w *writer) unwritten(n int) {
	if w.down.since.IsZero() {
		w.down.since = w.cfg.Clock()
	}
	w.down.denied += n
}

// commit writes the batch, or leaves what nobody waits for to the next round
// and fails the rest.
func (w *writer) commit() {
	if n := w.refused.Swap(0); n > 0 {
		w.unwritten(int(n))
	}
	_, lost, states := w.later.waiting()
	if len(w.batch) == 0 && lost == 0 && w.down.since.IsZero() {
		return
	}
	gap := w.gap(lost)
	w.writing.Store(max(1, int64(time.Since(w.began))))
	err := w.write(gap)
	w.writing.Store(0)
	if err != nil {
		w.failed(err)
		return
	}
	if gap != nil {
		w.later.told(lost, states)
		w.bridged(*gap, states)
	}
	w.written()
}

// gap is the record that must come first: the disk did not work, or records
// were dropped; nil when neither.
func (w *writer) gap(lost int) *Gap {
	if w.down.since.IsZero() && lost == 0 {
		return nil
	}
	now := w.cfg.Clock()
	g := &Gap{Time: now, Kind: GapUnwritable, Since: w.down.since, Until: now, Denied: w.down.denied, Lost: lost}
	if g.Since.IsZero() {
		g.Since = now
	}
	g.Kept, _, _ = w.later.waiting()
	return g
}

// write puts the gap and the batch on the chain, in the file.
func (w *writer) write(gap *Gap) error {
	if !w.headed { // a closed head must not be followed by records
		if err := w.writeHead(); err != nil {
			return err
		}
		w.headed = true
	}
	if w.misplaced.Load() {
		if err := w.replace(); err != nil {
			return err
		}
	}
	next, in := w.chain, w.history.Load()
	if in != nil && (w.in == nil || *in != *w.in) {
		next.store = 0 // revisions of another history do not compare
	}
	w.lines = w.lines[:0]
	if gap != nil {
		w.lines = next.appendGap(w.lines, gap)
	}
	for _, e := range w.batch {
		if e.kind != "" {
			w.lines = next.append(w.lines, e.enc.b, e.store)
		}
	}
	if err := w.folder.append(w.lines, w.cfg.Sync); err != nil {
		return err
	}
	w.chain, w.in = next, in
	w.head.Store(w.chain.head(w.cfg.Clock(), w.in))
	if cap(w.lines) > 4<<20 {
		w.lines = nil // one big batch must not hold its memory for ever
	}
	w.rotate()
	return nil
}

// rotate begins the next file when this one is full. If that fails, this one
// goes on growing: a record too many in it is better than one denied.
func (w *writer) rotate() {
	if w.folder.size < w.cfg.SegmentBytes {
		return
	}
	err := w.folder.next(w.chain.seq + 1)
	if err != nil && !w.overfull { // told once, tried at every write
		w.cfg.Log.Warn("audit segment not rotated", "error", err.Error())
	}
	w.overfull = err != nil
}

// replace goes on in a new file, after the current one was found moved, removed
// or shortened by someone else. What it held shows as missing ever after.
func (w *writer) replace() error {
	next := w.chain
	g := &Gap{Time: w.cfg.Clock(), Kind: GapTruncated, Detail: "the log's file was moved, removed or shortened while in use"}
	if err := w.folder.next(w.chain.seq + 1); err != nil {
		return err
	}
	if err := w.folder.append(next.appendGap(nil, g), w.cfg.Sync); err != nil {
		return err
	}
	w.chain = next
	w.misplaced.Store(false)
	w.cfg.Log.Error("audit file was moved, removed or shortened while in use")
	return nil
}

// failed answers the waiting decisions; their calls are denied.
func (w *writer) failed(err error) {
	w.metrics.failures.Inc()
	if w.available.Swap(false) || w.down.since.IsZero() {
		w.cfg.Log.Error("audit log is not writable", "error", err.Error())
	}
	w.unwritten(0)
	for _, e := range w.batch[w.kept:] {
		w.down.denied++
		if e.state.CompareAndSwap(entryWaiting, entryAnswered) {
			e.done <- unavailable(err)
		}
	}
}

// bridged ends an outage: its gap is in the log.
func (w *writer) bridged(g Gap, states int) {
	w.down = outage{}
	w.metrics.records.WithLabelValues(string(typeGap)).Inc()
	w.cfg.Log.Warn("audit log works again", "denied", g.Denied, "kept", g.Kept, "lost", g.Lost)
	if states > 0 {
		w.gaps.add(g)
	}
}

// written counts the batch and answers its callers.
func (w *writer) written() {
	w.available.Store(true)
	w.tallies.add(w.batch)
	w.later.drop(w.kept)
	for i, e := range w.batch {
		w.metrics.written(e.kind)
		switch {
		case i >= w.kept:
			w.answer(e)
		case e.kind == "":
			e.done <- nil
		}
	}
	if n, _, _ := w.later.waiting(); n > 0 {
		select { // a backlog goes on without waiting for a decision
		case w.later.kick <- struct{}{}:
		default:
		}
	}
}

// answer lets a caller go on. One that left meanwhile denied a call whose
// record may now say allowed; the record of its outcome puts that right.
func (w *writer) answer(e *entry) {
	id, n, allowed := e.id, e.note.task, e.note.reason == policy.Allowed
	if e.state.CompareAndSwap(entryWaiting, entryAnswered) {
		e.done <- nil // e is the caller's from here on
		return
	}
	if allowed {
		w.Outcome(context.Background(), Outcome{
			Time: w.cfg.Clock(), Decision: id, Subject: Subject{Task: n},
			Details: "denied audit_unavailable: the record came too late",
		})
	}
}

// finish writes what is left when the log closes, and the last head.
func (w *writer) finish() {
	for range maxAttempts {
		w.batch, w.kept = w.batch[:0], 0
		w.fill()
		n, lost, _ := w.later.waiting()
		if len(w.batch) == 0 && n == 0 && lost == 0 && w.down.since.IsZero() {
			break
		}
		w.commit()
	}
	for w.backlog() {
		w.commit()
	}
	if n, lost, _ := w.later.waiting(); n+lost > 0 {
		w.cfg.Log.Error("audit log closes with records that could not be written", "records", n+lost)
	}
	h := *w.head.Load()
	h.Closed, h.Time = true, w.cfg.Clock()
	w.head.Store(&h)
	if err := w.writeHead(); err != nil {
		w.cfg.Log.Error("audit head not written", "error", err.Error())
	}
}

// backlog fills a batch from what is kept, if the disk works.
func (w *writer) backlog() bool {
	w.batch, w.kept = w.batch[:0], 0
	w.fill()
	return len(w.batch) > 0 && w.available.Load()
}

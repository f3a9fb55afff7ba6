package audit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/policy"
)

// Errors. Callers test with errors.Is.
var (
	// ErrUnavailable: the record could not be written in time. What it is about
	// must not happen.
	ErrUnavailable = errors.New("audit log is not writable")
	ErrClosed      = errors.New("audit log is closed")
	// ErrMode: a file or folder is open to others.
	ErrMode = errors.New("audit folder or file is open to others")
	// ErrLocked: another process has the log open.
	ErrLocked = errors.New("another process has this audit log open")
)

// Config of a Log. Only Dir is needed.
type Config struct {
	// Dir holds the log alone; made 0700 when missing, refused when wider.
	Dir string
	// Sync puts every decision on disk before it counts as written.
	Sync bool
	// SegmentBytes is where a file ends and the next begins; 64 MiB when zero.
	SegmentBytes int64
	// Wait bounds how long a decision waits for a hung disk; 1s when zero.
	Wait time.Duration
	// HeadEvery is the longest that the signed head lags; 250ms when zero.
	HeadEvery time.Duration
	Registry  prometheus.Registerer
	Log       *slog.Logger
	Clock     func() time.Time // nil: time.Now

	open func(path string) (file, error) // tests put a failing disk here
}

// defaults fills in what was left out.
func (c *Config) defaults() {
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = 64 << 20
	}
	if c.Wait <= 0 {
		c.Wait = time.Second
	}
	if c.HeadEvery <= 0 {
		c.HeadEvery = 250 * time.Millisecond
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.open == nil {
		c.open = openFile
	}
}

// Log is an open audit log.
type Log struct {
	cfg     Config
	metrics metrics
	began   time.Time // for monotonic durations
	folder  *folder
	chain   chain // the writer's alone, as are headed and in
	headed  bool  // an open head is in place
	in      *history

	// decisions wait for their callers; a channel, so that a check takes no lock
	// of ours.
	decisions chan *entry
	later     later
	tallies   tallies

	// writing is when the write under way began, in nanoseconds after began;
	// zero when none is. It tells a hung disk from a slow one.
	writing   atomic.Int64
	available atomic.Bool
	refused   atomic.Int64 // decisions refused at once because the disk hangs
	head      atomic.Pointer[head]
	history   atomic.Pointer[history]
	headMu    sync.Mutex // one head write at a time
	misplaced atomic.Bool
	gaps      gapList

	closing  chan struct{}
	stopped  chan struct{} // the writer ended
	ended    chan struct{} // all ended
	closeOne sync.Once
}

// Open opens or begins the log in cfg.Dir. A torn end is moved aside and
// recorded; signs of tampering are recorded and logged, and the log goes on, so
// that the signs stay in it.
func Open(cfg Config) (*Log, error) {
	cfg.defaults()
	f, err := openFolder(cfg.Dir, cfg.open)
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, began: time.Now(), folder: f,
		decisions: make(chan *entry, 4096),
		closing:   make(chan struct{}), stopped: make(chan struct{}), ended: make(chan struct{}),
	}
	l.later.kick, l.later.limit = make(chan struct{}, 1), maxKept
	l.tallies.init()
	l.metrics.register(cfg.Registry, l)
	if err := l.recover(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	l.available.Store(true)
	go l.run()
	go l.keepHead()
	return l, nil
}

// closeWait is how long Close waits at least: nobody's call hangs on it, and a
// disk that is only slow shall have what is waiting.
const closeWait = 5 * time.Second

// Close writes what is waiting and the head. It gives up on a hung disk.
func (l *Log) Close() error {
	l.closeOne.Do(func() { close(l.closing) })
	select {
	case <-l.ended:
	case <-time.After(max(closeWait, 2*l.cfg.Wait)):
		return fmt.Errorf("closing: %w", ErrUnavailable)
	}
	return l.folder.close()
}

// Decision writes d and returns once it is written. On an error, which wraps
// ErrUnavailable or ErrClosed, d must not take effect.
func (l *Log) Decision(ctx context.Context, d Decision) error {
	if l.hung() {
		l.refused.Add(1)
		return ErrUnavailable
	}
	e := newDecision(&d)
	e.timer.Reset(l.cfg.Wait)
	select {
	case l.decisions <- e:
	case <-ctx.Done():
		return l.refuse(e, context.Cause(ctx))
	case <-e.timer.C:
		return l.refuse(e, nil)
	case <-l.stopped:
		return l.refuse(e, ErrClosed)
	}
	select {
	case err := <-e.done:
		e.free()
		return err
	case <-ctx.Done():
		return l.abandon(e, context.Cause(ctx))
	case <-e.timer.C:
		return l.abandon(e, nil)
	case <-l.stopped:
		return l.abandon(e, ErrClosed)
	}
}

// hung reports whether one write has taken longer than any decision may wait.
func (l *Log) hung() bool {
	began := l.writing.Load()
	return began != 0 && time.Since(l.began)-time.Duration(began) > l.cfg.Wait
}

// refuse gives up on a decision that the writer never got.
func (l *Log) refuse(e *entry, cause error) error {
	if !errors.Is(cause, context.Canceled) {
		l.refused.Add(1)
	}
	e.free()
	return unavailable(cause)
}

// abandon gives up on a decision that the writer has, unless it is just done.
func (l *Log) abandon(e *entry, cause error) error {
	to := int32(entryAbandoned)
	if errors.Is(cause, context.Canceled) {
		to = entryLeft
	}
	if !e.state.CompareAndSwap(entryWaiting, to) {
		err := <-e.done
		e.free()
		return err
	}
	if cause == nil { // the disk, not the caller, was what took too long
		l.available.Store(false)
	}
	return unavailable(cause)
}

// unavailable wraps a cause so that errors.Is finds both.
func unavailable(cause error) error {
	if cause == nil {
		return ErrUnavailable
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, cause)
}

// Transition records t soon; it never waits and never fails.
func (l *Log) Transition(_ context.Context, t Transition) {
	e := newEntry(typeTransition)
	e.enc.transition(&t)
	e.store = t.Store
	l.keep(e)
}

// Approval records a soon; it never waits and never fails.
func (l *Log) Approval(_ context.Context, a ApprovalEvent) {
	e := newEntry(typeApproval)
	e.enc.approval(&a)
	l.keep(e)
}

// Credential records c soon; it never waits and never fails.
func (l *Log) Credential(_ context.Context, c CredentialEvent) {
	e := newEntry(typeCredential)
	e.enc.credential(&c)
	e.note = note{task: c.Task, action: c.Action, outcome: c.Outcome}
	l.keep(e)
}

// Outcome records o soon; it never waits and never fails.
func (l *Log) Outcome(_ context.Context, o Outcome) {
	e := newEntry(typeOutcome)
	e.enc.outcome(&o)
	e.note = note{task: o.Task, sent: o.Sent, received: o.Received}
	l.keep(e)
}

// Config records c soon; it never waits and never fails.
func (l *Log) Config(_ context.Context, c ConfigEvent) {
	e := newEntry(typeConfig)
	e.enc.config(&c)
	l.keep(e)
}

// keep hands a record to the writer without waiting for it.
func (l *Log) keep(e *entry) {
	if !l.later.push(e) {
		l.metrics.lost.Inc()
	}
}

// Flush returns once everything recorded before is written or dropped.
func (l *Log) Flush(ctx context.Context) error {
	e := newEntry("")
	e.done = make(chan error, 1)
	l.later.push(e)
	select {
	case err := <-e.done:
		return err
	case <-ctx.Done():
		return unavailable(context.Cause(ctx))
	case <-l.stopped:
		return ErrClosed
	}
}

// Available reports whether the last write succeeded and none hangs.
func (l *Log) Available() bool { return l.available.Load() && !l.hung() }

// Restored puts on record that the store was put back from a backup since this
// log was last written to. It is called before anything of that store is
// recorded. What ended by it is to be written from the store, as after any gap.
func (l *Log) Restored(detail string) {
	now := l.cfg.Clock()
	g := Gap{Time: now, Kind: GapRestored, Since: l.head.Load().Time, Until: now, Detail: detail}
	e := newEntry(typeGap)
	e.enc.gap(&g)
	l.keep(e)
	l.gaps.add(g)
	l.cfg.Log.Warn("the store was restored from a backup; this is on record", "detail", detail)
}

// TakeGaps gives, once, the gaps in which transitions were lost or may have
// been, so that they can be written again from the store.
func (l *Log) TakeGaps() []Gap { return l.gaps.take() }

// Tally counts what a task did.
func (l *Log) Tally(task policy.TaskID) Tally { return l.tallies.tally(task) }

// Denials lists a task's denials after the one numbered after, at most the
// latest 256, and the number to go on from. With wait it waits for one; ctx's
// end then gives an empty list and no error.
func (l *Log) Denials(ctx context.Context, task policy.TaskID, after int, wait bool) ([]Denial, int, error) {
	return l.tallies.denials(ctx, task, after, wait, l.stopped)
}

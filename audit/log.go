package audit

import (
	"context"
	"errors"
	"log/slog"
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
	// HeadEvery is the longest that the signed head lags; 100ms when zero.
	HeadEvery time.Duration
	Registry  prometheus.Registerer
	Log       *slog.Logger
	Clock     func() time.Time // nil: time.Now
}

// Log is an open audit log.
type Log struct{}

// Open opens or begins the log in cfg.Dir.
func Open(cfg Config) (*Log, error) { panic("contract") }

// Close writes what is waiting and the head. It gives up on a hung disk.
func (l *Log) Close() error { panic("contract") }

// Decision writes d and returns once it is written. On an error, which wraps
// ErrUnavailable, d must not take effect.
func (l *Log) Decision(ctx context.Context, d Decision) error { panic("contract") }

// Transition records t soon; it never waits and never fails.
func (l *Log) Transition(ctx context.Context, t Transition) { panic("contract") }

// Credential records c soon; it never waits and never fails.
func (l *Log) Credential(ctx context.Context, c CredentialEvent) { panic("contract") }

// Outcome records o soon; it never waits and never fails.
func (l *Log) Outcome(ctx context.Context, o Outcome) { panic("contract") }

// Config records c soon; it never waits and never fails.
func (l *Log) Config(ctx context.Context, c ConfigEvent) { panic("contract") }

// Flush returns once everything recorded before is written.
func (l *Log) Flush(ctx context.Context) error { panic("contract") }

// Available reports whether the last write succeeded and none hangs.
func (l *Log) Available() bool { panic("contract") }

// TakeGaps gives, once, the gaps in which transitions were lost or may have
// been, so that they can be written again from the store.
func (l *Log) TakeGaps() []Gap { panic("contract") }

// StoreRevision is the highest store revision that any record has named. A
// store that is behind it was restored from a backup.
func (l *Log) StoreRevision() int64 { panic("contract") }

// Tally counts what a task did.
func (l *Log) Tally(task policy.TaskID) Tally { panic("contract") }

// Denials lists a task's denials after the one numbered after, at most the
// latest 256, and the number to go on from. With wait it waits for one; ctx's
// end then gives an empty list and no error.
func (l *Log) Denials(ctx context.Context, task policy.TaskID, after int, wait bool) ([]Denial, int, error) {
	panic("contract")
}

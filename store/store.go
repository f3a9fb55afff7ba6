package store

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Errors. Callers test with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile") // a compare failed and retrying could not help
	ErrFull     = errors.New("store is past its soft limit; endings still work")
	ErrFloor    = errors.New("revoked meanwhile") // a floor rose above what the transaction built on
	ErrClosed   = errors.New("store is closed")
	ErrLocked   = errors.New("another process uses this data folder")
)

// Config of a Store. Dir (embedded) or Endpoints (cluster), not both.
type Config struct {
	Dir        string
	Endpoints  []string
	TLS        *tls.Config
	Replica    string           // this process, unique among live ones
	Staleness  time.Duration    // promise 8's bound; 2s when zero
	QuotaBytes int64            // etcd's quota; soft limit is 70% of it
	Wall       func() time.Time // nil: time.Now
	Log        *slog.Logger
}

// Store is a connection to the shared state and this process's index of it.
type Store struct{}

// Open starts (or connects to) etcd, takes the lock on Dir, loads the index and follows.
// It returns when the index is loaded and fresh.
func Open(ctx context.Context, cfg Config) (*Store, error) { panic("contract") }
func (s *Store) Close() error                              { panic("contract") }
func (s *Store) Index() *Index                             { panic("contract") }

// Now is max(wall clock, last store time + monotonic elapsed): it never goes back.
func (s *Store) Now() time.Time { panic("contract") }

// Each transaction returns the store revision at which it took effect.

// PublishCatalog makes source (opaque bytes; gzip JSON of a v1alpha1.Set) the
// catalog in force, if leader still leads. Publishing what is in force already
// changes nothing and returns the revision at which it was published.
func (s *Store) PublishCatalog(ctx context.Context, source []byte) (int64, error) { panic("contract") }

func (s *Store) CreateTask(ctx context.Context, t policy.Task) (int64, error) { panic("contract") }

// ChangeTask applies fn to the task by compare-and-swap. When the result is
// Ended, the same transaction is the ending of all its grants (the index folds
// a task's end into its grants; the sweeper later tombstones each). fn may run more than once.
func (s *Store) ChangeTask(ctx context.Context, id policy.TaskID, fn func(policy.Task) (policy.Task, error)) (policy.Task, int64, error) {
	panic("contract")
}

// CreateGrants writes grants in one transaction that compares: the task is
// active and unchanged, the catalog in force is the grants', and no floor of theirs rose
// above index revision `seen`.
func (s *Store) CreateGrants(ctx context.Context, seen int64, gs ...policy.Grant) (int64, error) {
	panic("contract")
}

// ChangeGrant applies fn by compare-and-swap. When the result is Ended after having been
// Active, the same transaction writes the cut key of (instance, task,
// destination). Out of space, an ending deletes the record instead.
func (s *Store) ChangeGrant(ctx context.Context, task policy.TaskID, id policy.GrantID, fn func(policy.Grant) (policy.Grant, error)) (policy.Grant, int64, error) {
	panic("contract")
}

// PutCredential stores a grant's sealed credential if the grant is active and no floor rose; else ErrConflict/ErrFloor.
func (s *Store) PutCredential(ctx context.Context, task policy.TaskID, c policy.SealedCredential) (int64, error) {
	panic("contract")
}

// RaiseFloor ends everything in scope made before: one write.
func (s *Store) RaiseFloor(ctx context.Context, scope policy.Scope) (int64, error) { panic("contract") }

// DropTask forgets an ended task, its grants' tombstones, credentials and cut keys (retention).
func (s *Store) DropTask(ctx context.Context, id policy.TaskID) error { panic("contract") }

// GetTask and GetGrant read through to etcd (linearizable).
func (s *Store) GetTask(ctx context.Context, id policy.TaskID) (policy.Task, error) {
	panic("contract")
}
func (s *Store) GetGrant(ctx context.Context, id policy.GrantID) (policy.Grant, error) {
	panic("contract")
}

// Lead runs fn whenever this process holds the named election, with a context
// that ends with leadership; it returns when ctx ends.
func (s *Store) Lead(ctx context.Context, name string, fn func(context.Context)) { panic("contract") }

// Bucket is a named space of small values outside the prefix that
// authorisation follows: the credential ledger, sealed keys.
func (s *Store) Bucket(name string) *Bucket { panic("contract") }

type Bucket struct{}

// Entry's Revision is its mod revision, 0 for an absent one.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64
}

func (b *Bucket) Get(ctx context.Context, key string) (Entry, error)       { panic("contract") } // ErrNotFound
func (b *Bucket) List(ctx context.Context, prefix string) ([]Entry, error) { panic("contract") }

// Swap writes value if the key is still at revision old (0: absent), else ErrConflict.
func (b *Bucket) Swap(ctx context.Context, key string, old int64, value []byte) (int64, error) {
	panic("contract")
}

// SwapTTL is Swap for a value that vanishes after ttl (claims).
func (b *Bucket) SwapTTL(ctx context.Context, key string, old int64, value []byte, ttl time.Duration) (int64, error) {
	panic("contract")
}
func (b *Bucket) Delete(ctx context.Context, key string, old int64) error { panic("contract") }

// Watch calls fn for every present entry, then for every change (nil Value: deleted) until ctx ends; survives compaction.
func (b *Bucket) Watch(ctx context.Context, fn func(Entry)) error { panic("contract") }

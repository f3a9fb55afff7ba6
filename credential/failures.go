package credential

import (
	"context"
	"sync"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Failures is what other processes' Managers say about grants without a
// credential, for a process that has none itself. It opens nothing: the ledger
// names what is out and holds none of it.
type Failures struct {
	bucket *store.Bucket

	mu   sync.Mutex
	text map[policy.GrantID]string
}

// NewFailures knows of no failure until Run runs.
func NewFailures(s *store.Store) *Failures {
	return &Failures{bucket: s.Bucket(ledgerBucket), text: make(map[policy.GrantID]string)}
}

// Run follows the ledger until ctx ends. Its error is the store's.
func (f *Failures) Run(ctx context.Context) error {
	err := f.bucket.Watch(ctx, f.see)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// see takes in one entry; of one that cannot be read nothing is known.
func (f *Failures) see(e store.Entry) {
	text := ""
	if entry, err := decodeEntry(e); err == nil {
		text = entry.GetFailure()
	}
	id := policy.GrantID(e.Key)
	f.mu.Lock()
	defer f.mu.Unlock()
	if text == "" {
		delete(f.text, id)
		return
	}
	f.text[id] = text
}

// Failure says in words why a grant has no credential and what to do; empty
// when nothing failed.
func (f *Failures) Failure(id policy.GrantID) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text[id]
}

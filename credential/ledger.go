package credential

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/exeat-dev/exeat/credential/record"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

const ledgerBucket = "ledger"

// ledgerEntry is what may be out for one grant, with the revision at which it
// was read. The zero entry has no revision: nothing is out.
type ledgerEntry struct {
	*record.Entry
	revision int64
}

// clone gives a copy to change.
func (e ledgerEntry) clone() ledgerEntry {
	return ledgerEntry{Entry: proto.CloneOf(e.Entry), revision: e.revision}
}

// claimed reports whether another replica works on it.
func (e ledgerEntry) claimed(me string, now time.Time) bool {
	return e.Entry != nil && e.GetClaimedBy() != "" && e.GetClaimedBy() != me && now.UnixNano() < e.GetClaimedUntil()
}

// ledger is the record of what is out, and this process's copy of it. Every
// change is a compare-and-swap on the entry, which is also how a replica claims
// the work on a grant: whoever's write fails has lost the claim.
type ledger struct {
	bucket *store.Bucket

	mu      sync.Mutex
	entries map[policy.GrantID]ledgerEntry
	// gone holds the revisions of entries that this process deleted, against a
	// late event that would bring one back.
	gone map[policy.GrantID]int64
}

func newLedger(s *store.Store) *ledger {
	return &ledger{
		bucket:  s.Bucket(ledgerBucket),
		entries: make(map[policy.GrantID]ledgerEntry), gone: make(map[policy.GrantID]int64),
	}
}

// follow keeps the copy up to date until ctx ends, and tells of each change.
func (l *ledger) follow(ctx context.Context, changed func(policy.GrantID, policy.TaskID)) error {
	return l.bucket.Watch(ctx, func(e store.Entry) {
		id := policy.GrantID(e.Key)
		if e.Value == nil {
			l.forget(id)
			changed(id, "")
			return
		}
		entry, err := decodeEntry(e)
		if err != nil {
			return // of a later version: not this program's to touch
		}
		l.keep(entry)
		changed(id, policy.TaskID(entry.GetTask()))
	})
}

// decodeEntry reads an entry. One of another version, or under another grant's
// key, is not an entry: nobody may act on a guess about what is out.
func decodeEntry(e store.Entry) (ledgerEntry, error) {
	r := new(record.Entry)
	if proto.Unmarshal(e.Value, r) != nil || r.GetVersion() != recordVersion || r.GetGrant() != e.Key {
		return ledgerEntry{}, errRecord
	}
	return ledgerEntry{Entry: r, revision: e.Revision}, nil
}

// keep takes over an entry unless a later one is known.
func (l *ledger) keep(e ledgerEntry) {
	id := policy.GrantID(e.GetGrant())
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.revision > l.entries[id].revision && e.revision > l.gone[id] {
		l.entries[id] = e
	}
}

// forget drops an entry that the store no longer has.
func (l *ledger) forget(id policy.GrantID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, id)
	delete(l.gone, id)
}

// get gives what is known of a grant; the zero entry when nothing is.
func (l *ledger) get(id policy.GrantID) ledgerEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[id]
}

// all copies what is known.
func (l *ledger) all() []ledgerEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.entries))
}

// put writes an entry over the one that it was cloned from; store.ErrConflict
// when that is not the latest.
func (l *ledger) put(ctx context.Context, e ledgerEntry) (ledgerEntry, error) {
	b, err := proto.Marshal(e.Entry)
	if err != nil {
		return e, err
	}
	rev, err := l.bucket.Swap(ctx, e.GetGrant(), e.revision, b)
	if err != nil {
		if errors.Is(err, store.ErrConflict) {
			l.reread(ctx, policy.GrantID(e.GetGrant()))
		}
		return e, fmt.Errorf("ledger: %w", err)
	}
	e.revision = rev
	l.keep(e)
	return e, nil
}

// remove deletes the entry: nothing is out any more.
func (l *ledger) remove(ctx context.Context, e ledgerEntry) error {
	id := policy.GrantID(e.GetGrant())
	l.mu.Lock()
	l.gone[id] = e.revision // before its deletion is told, which clears it
	l.mu.Unlock()
	err := l.bucket.Delete(ctx, e.GetGrant(), e.revision)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		delete(l.gone, id)
		return fmt.Errorf("ledger: %w", err)
	}
	if l.entries[id].revision <= e.revision {
		delete(l.entries, id)
	}
	return nil
}

// reread brings the copy of one entry up to date without waiting for the watch.
func (l *ledger) reread(ctx context.Context, id policy.GrantID) {
	e, err := l.bucket.Get(ctx, string(id))
	switch {
	case errors.Is(err, store.ErrNotFound):
		l.forget(id)
	case err == nil:
		if entry, err := decodeEntry(e); err == nil {
			l.keep(entry)
		}
	}
}

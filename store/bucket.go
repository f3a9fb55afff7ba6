package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Bucket is a named space of small values outside the prefix that
// authorisation follows: the credential ledger, sealed keys.
type Bucket struct {
	store  *Store
	prefix string
}

// Bucket names a space; it needs no making.
func (s *Store) Bucket(name string) *Bucket {
	return &Bucket{store: s, prefix: join(prefixBucket, name, "")}
}

// Entry's Revision is its mod revision, 0 for an absent one.
type Entry struct {
	Key      string
	Value    []byte
	Revision int64
}

func (b *Bucket) entry(kv *mvccpb.KeyValue) Entry {
	return Entry{Key: strings.TrimPrefix(string(kv.Key), b.prefix), Value: present(kv.Value), Revision: kv.ModRevision}
}

// present keeps an empty value apart from none.
func present(v []byte) []byte {
	if v == nil {
		return []byte{}
	}
	return v
}

// Get reads one entry (linearizable), or ErrNotFound.
func (b *Bucket) Get(ctx context.Context, key string) (Entry, error) {
	kvs, err := b.store.read(ctx, "bucket get", b.prefix+key)
	if err != nil {
		return Entry{}, err
	}
	if kvs[0] == nil {
		return Entry{}, fmt.Errorf("bucket get: %w", ErrNotFound)
	}
	return b.entry(kvs[0]), nil
}

// List reads the entries whose keys begin with prefix, in key order, as of
// one moment.
func (b *Bucket) List(ctx context.Context, prefix string) ([]Entry, error) {
	var list []Entry
	_, err := scan(ctx, b.store.client.KV, b.prefix+prefix, func(kv *mvccpb.KeyValue) { list = append(list, b.entry(kv)) })
	return list, b.store.txnError("bucket list", err)
}

// Swap writes value if the key is still at revision old (0: absent), else ErrConflict.
func (b *Bucket) Swap(ctx context.Context, key string, old int64, value []byte) (int64, error) {
	return b.swap(ctx, key, old, clientv3.OpPut(b.prefix+key, string(value)))
}

// SwapTTL is Swap for a value that vanishes after ttl (claims), rounded up to
// whole seconds. A process that died while it was alone in its data folder
// leaves none behind.
func (b *Bucket) SwapTTL(ctx context.Context, key string, old int64, value []byte, ttl time.Duration) (int64, error) {
	s := b.store
	lease, err := s.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, s.txnError("bucket swap", err)
	}
	rev, err := b.swap(ctx, key, old, clientv3.OpPut(b.prefix+key, string(value), clientv3.WithLease(lease.ID)))
	if err != nil {
		// The lease would end by itself; nothing is under it that counts.
		_, _ = s.client.Revoke(context.WithoutCancel(ctx), lease.ID)
	}
	return rev, err
}

// Delete removes the key if it is still at revision old, else ErrConflict.
// What is absent already (old 0) stays so.
func (b *Bucket) Delete(ctx context.Context, key string, old int64) error {
	_, err := b.swap(ctx, key, old, clientv3.OpDelete(b.prefix+key))
	return err
}

func (b *Bucket) swap(ctx context.Context, key string, old int64, op clientv3.Op) (int64, error) {
	cmp := clientv3.Compare(clientv3.ModRevision(b.prefix+key), "=", old)
	// One that took effect though its answer was lost is a conflict: who claims
	// something must not take another's claim of the same value for its own.
	r, _, err := b.store.try(ctx, []clientv3.Cmp{cmp}, []clientv3.Op{op})
	if err != nil {
		return 0, b.store.txnError("bucket swap", err)
	}
	if !r.Succeeded {
		return 0, fmt.Errorf("bucket swap: %w", ErrConflict)
	}
	return r.Header.Revision, nil
}

// Watch calls fn for every present entry, then for every change (nil Value: deleted) until ctx ends; survives compaction.
// Its error is ctx's, or ErrClosed.
func (b *Bucket) Watch(ctx context.Context, fn func(Entry)) error {
	s := b.store
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	known := make(map[string]struct{})
	for {
		rev, err := b.present(ctx, known, fn)
		if err == nil {
			err = watch(ctx, s.client.Watcher, b.prefix, rev, nil, func(r clientv3.WatchResponse) error {
				for _, ev := range r.Events {
					b.tell(known, ev, fn)
				}
				return nil
			})
		}
		if s.ctx.Err() != nil {
			return ErrClosed
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.log.Warn("a bucket is read anew", "error", err)
		if !pause(ctx, retryWait) {
			continue
		}
	}
}

// present tells of all entries, and of those that were known and are gone.
func (b *Bucket) present(ctx context.Context, known map[string]struct{}, fn func(Entry)) (int64, error) {
	seen := make(map[string]struct{})
	var list []Entry
	header, err := scan(ctx, b.store.client.KV, b.prefix, func(kv *mvccpb.KeyValue) { list = append(list, b.entry(kv)) })
	if err != nil {
		return 0, err
	}
	for _, e := range list {
		seen[e.Key], known[e.Key] = struct{}{}, struct{}{}
		fn(e)
	}
	for key := range known {
		if _, ok := seen[key]; !ok {
			delete(known, key)
			fn(Entry{Key: key})
		}
	}
	return header.Revision, nil
}

func (b *Bucket) tell(known map[string]struct{}, ev *clientv3.Event, fn func(Entry)) {
	e := b.entry(ev.Kv)
	if ev.Type == mvccpb.DELETE {
		delete(known, e.Key)
		fn(Entry{Key: e.Key})
		return
	}
	known[e.Key] = struct{}{}
	fn(e)
}

package store

import (
	"hash/maphash"
	"iter"
	"sync/atomic"
)

// table is a hash table that one goroutine writes while any number read
// without a lock and without allocating. (sync.Map would allocate for a key
// that is a string.) A reader sees each entry as it was at some moment of its
// reading.
type table[K ~string, V any] struct {
	seed    maphash.Seed
	buckets atomic.Pointer[[]atomic.Pointer[node[K, V]]]
	n       int // entries; the writer's
}

// node is an entry of a chain; key and value never change.
type node[K ~string, V any] struct {
	key   K
	value V
	next  atomic.Pointer[node[K, V]]
}

const minBuckets = 64 // a power of two, as all sizes are

func newTable[K ~string, V any]() *table[K, V] {
	t := &table[K, V]{seed: maphash.MakeSeed()}
	b := make([]atomic.Pointer[node[K, V]], minBuckets)
	t.buckets.Store(&b)
	return t
}

func (t *table[K, V]) bucket(b []atomic.Pointer[node[K, V]], k K) *atomic.Pointer[node[K, V]] {
	return &b[maphash.String(t.seed, string(k))&uint64(len(b)-1)]
}

// get is for readers.
func (t *table[K, V]) get(k K) (v V, ok bool) {
	for n := t.bucket(*t.buckets.Load(), k).Load(); n != nil; n = n.next.Load() {
		if n.key == k {
			return n.value, true
		}
	}
	return v, false
}

// all visits every entry; for readers.
func (t *table[K, V]) all() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		b := *t.buckets.Load()
		for i := range b {
			for n := b[i].Load(); n != nil; n = n.next.Load() {
				if !yield(n.key, n.value) {
					return
				}
			}
		}
	}
}

// add puts in a key that is not there yet; for the writer.
func (t *table[K, V]) add(k K, v V) {
	b := *t.buckets.Load()
	if t.n >= len(b) {
		b = t.grow(b)
	}
	t.n++
	push(t.bucket(b, k), k, v)
}

func push[K ~string, V any](head *atomic.Pointer[node[K, V]], k K, v V) {
	n := &node[K, V]{key: k, value: v}
	n.next.Store(head.Load())
	head.Store(n)
}

// grow doubles the buckets. Readers of the old ones see what was there.
func (t *table[K, V]) grow(old []atomic.Pointer[node[K, V]]) []atomic.Pointer[node[K, V]] {
	b := make([]atomic.Pointer[node[K, V]], 2*len(old))
	for k, v := range t.all() {
		push(t.bucket(b, k), k, v)
	}
	t.buckets.Store(&b)
	return b
}

// remove takes a key out; for the writer. A reader that stands on its node
// finds its way on.
func (t *table[K, V]) remove(k K) {
	at := t.bucket(*t.buckets.Load(), k)
	for n := at.Load(); n != nil; at, n = &n.next, n.next.Load() {
		if n.key == k {
			at.Store(n.next.Load())
			t.n--
			return
		}
	}
}

package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	clientv3 "go.etcd.io/etcd/client/v3"
)

func TestABucketSwaps(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	b, ctx := s.Bucket("ledger"), t.Context()
	if _, err := b.Get(ctx, "g_1/intent"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("an absent one: %v", err)
	}
	rev, err := b.Swap(ctx, "g_1/intent", 0, []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Swap(ctx, "g_1/intent", 0, []byte("two")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("made twice: %v", err)
	}
	if _, err := b.Swap(ctx, "g_2", 0, nil); err != nil {
		t.Error(err)
	}
	if _, err := s.Bucket("other").Swap(ctx, "g_1/intent", 0, []byte("elsewhere")); err != nil {
		t.Error(err)
	}
	e, err := b.Get(ctx, "g_1/intent")
	if err != nil || string(e.Value) != "one" || e.Revision != rev || e.Key != "g_1/intent" {
		t.Errorf("got %+v, %v", e, err)
	}
	list, err := b.List(ctx, "g_")
	if err != nil || len(list) != 2 || list[0].Key != "g_1/intent" || list[1].Value == nil {
		t.Errorf("list %+v, %v", list, err)
	}
	if err := b.Delete(ctx, "g_1/intent", rev+1); !errors.Is(err, store.ErrConflict) {
		t.Errorf("deleting another version: %v", err)
	}
	if err := b.Delete(ctx, "g_1/intent", rev); err != nil {
		t.Error(err)
	}
	if err := b.Delete(ctx, "g_1/intent", 0); err != nil {
		t.Errorf("deleting what is gone: %v", err)
	}
}

func TestAClaimVanishes(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	b, ctx := s.Bucket("claims"), t.Context()
	if _, err := b.SwapTTL(ctx, "mint", 0, []byte("me"), time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SwapTTL(ctx, "mint", 0, []byte("you"), time.Second); !errors.Is(err, store.ErrConflict) {
		t.Fatalf("claimed twice: %v", err)
	}
	eventually(t, "the claim is free again", func() bool {
		_, err := b.SwapTTL(ctx, "mint", 0, []byte("you"), time.Second)
		return err == nil
	})
}

// A claim of a process that died is free for the next one at once.
func TestAClaimGoesWithTheOnlyProcess(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	s := storetest.Open(t, storetest.WithDir(dir))
	if _, err := s.Bucket("claims").SwapTTL(t.Context(), "mint", 0, []byte("me"), time.Hour); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, storetest.WithDir(dir))
	if _, err := s.Bucket("claims").Get(t.Context(), "mint"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the claim is still there: %v", err)
	}
}

// mirror is what a bucket's watcher has been told.
type mirror struct {
	mu   sync.Mutex
	have map[string]string
}

func (m *mirror) take(e store.Entry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e.Value == nil {
		delete(m.have, e.Key)
		return
	}
	m.have[e.Key] = string(e.Value)
}

func (m *mirror) is(key, value string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.have[key] == value
}

func TestABucketIsFollowedThroughACompaction(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, storetest.Dir(t))
	f := newFaulty(e.Client())
	s, writer := openFaulty(t, f, "follower", time.Second), openFaulty(t, newFaulty(e.Client()), "writer", time.Second)
	b, ctx := writer.Bucket("keys"), t.Context()
	if _, err := b.Swap(ctx, "a", 0, []byte("1")); err != nil {
		t.Fatal(err)
	}
	gone, err := b.Swap(ctx, "gone", 0, []byte("1"))
	if err != nil {
		t.Fatal(err)
	}
	m := &mirror{have: make(map[string]string)}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- s.Bucket("keys").Watch(ctx, m.take) }()
	eventually(t, "what was there", func() bool { return m.is("a", "1") && m.is("gone", "1") })

	f.stall()
	if err := b.Delete(ctx, "gone", gone); err != nil {
		t.Fatal(err)
	}
	rev, err := b.Swap(ctx, "b", 0, []byte("2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Client().Compact(ctx, rev, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	f.breakWatches()
	f.resume()
	eventually(t, "what changed meanwhile", func() bool { return m.is("b", "2") && m.is("gone", "") })
	if _, err := b.Swap(ctx, "b", rev, []byte("3")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what changes now", func() bool { return m.is("b", "3") })
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

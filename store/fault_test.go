package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/embedded"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// faulty is a client of etcd whose watches can be stalled and broken, whose
// calls can be made to fail, and whose etcd can be exchanged.
type faulty struct {
	mu      sync.Mutex
	base    *clientv3.Client
	down    bool
	running chan struct{} // closed while watches run
	broken  chan struct{} // closed to break the watches that there are
}

var errDown = errors.New("etcd cannot be reached")

func newFaulty(base *clientv3.Client) *faulty {
	f := &faulty{base: base, running: make(chan struct{}), broken: make(chan struct{})}
	close(f.running)
	return f
}

// client gives a client that goes through f.
func (f *faulty) client() *clientv3.Client {
	c := clientv3.NewCtxClient(context.Background())
	c.KV, c.Watcher = faultyKV{f}, faultyWatcher{f}
	c.Lease = &faultyLease{Lease: f.base.Lease, f: f}
	c.Maintenance, c.Cluster = f.base.Maintenance, f.base.Cluster
	return c
}

// stall holds back every watch; resume lets them run.
func (f *faulty) stall() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = make(chan struct{})
}

func (f *faulty) resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.running)
}

// breakWatches ends the watches that there are, as a lost connection does.
func (f *faulty) breakWatches() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.broken)
	f.broken = make(chan struct{})
}

func (f *faulty) setDown(down bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.down = down
}

// exchange puts another etcd under the client; watches of the old one stay,
// and are silent from now on.
func (f *faulty) exchange(base *clientv3.Client) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.base = base
}

func (f *faulty) get() (base *clientv3.Client, down bool, running, broken chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.base, f.down, f.running, f.broken
}

// faultyLease loses its leases when etcd cannot be reached.
type faultyLease struct {
	clientv3.Lease
	f *faulty
}

func (l *faultyLease) Grant(ctx context.Context, ttl int64) (*clientv3.LeaseGrantResponse, error) {
	if _, down, _, _ := l.f.get(); down {
		return nil, errDown
	}
	return l.Lease.Grant(ctx, ttl)
}

func (l *faultyLease) KeepAliveOnce(ctx context.Context, id clientv3.LeaseID) (*clientv3.LeaseKeepAliveResponse, error) {
	if _, down, _, _ := l.f.get(); down {
		return nil, errDown
	}
	return l.Lease.KeepAliveOnce(ctx, id)
}

type faultyKV struct{ f *faulty }

func (k faultyKV) kv() clientv3.KV {
	base, down, _, _ := k.f.get()
	if down {
		return downKV{}
	}
	return base.KV
}

func (k faultyKV) Put(ctx context.Context, key, val string, opts ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	return k.kv().Put(ctx, key, val, opts...)
}

func (k faultyKV) Get(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return k.kv().Get(ctx, key, opts...)
}

func (k faultyKV) GetStream(ctx context.Context, key string, opts ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return k.kv().GetStream(ctx, key, opts...)
}

func (k faultyKV) Delete(ctx context.Context, key string, opts ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	return k.kv().Delete(ctx, key, opts...)
}

func (k faultyKV) Compact(ctx context.Context, rev int64, opts ...clientv3.CompactOption) (*clientv3.CompactResponse, error) {
	return k.kv().Compact(ctx, rev, opts...)
}

func (k faultyKV) Do(ctx context.Context, op clientv3.Op) (clientv3.OpResponse, error) {
	return k.kv().Do(ctx, op)
}

func (k faultyKV) Txn(ctx context.Context) clientv3.Txn { return k.kv().Txn(ctx) }

type downKV struct{}

func (downKV) Put(context.Context, string, string, ...clientv3.OpOption) (*clientv3.PutResponse, error) {
	return nil, errDown
}

func (downKV) Get(context.Context, string, ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	return nil, errDown
}

func (downKV) GetStream(context.Context, string, ...clientv3.OpOption) (clientv3.GetStreamChan, error) {
	return nil, errDown
}

func (downKV) Delete(context.Context, string, ...clientv3.OpOption) (*clientv3.DeleteResponse, error) {
	return nil, errDown
}

func (downKV) Compact(context.Context, int64, ...clientv3.CompactOption) (*clientv3.CompactResponse, error) {
	return nil, errDown
}

func (downKV) Do(context.Context, clientv3.Op) (r clientv3.OpResponse, err error) { return r, errDown }
func (downKV) Txn(context.Context) clientv3.Txn                                   { return downTxn{} }

type downTxn struct{}

func (t downTxn) If(...clientv3.Cmp) clientv3.Txn        { return t }
func (t downTxn) Then(...clientv3.Op) clientv3.Txn       { return t }
func (t downTxn) Else(...clientv3.Op) clientv3.Txn       { return t }
func (t downTxn) Commit() (*clientv3.TxnResponse, error) { return nil, errDown }

type faultyWatcher struct{ f *faulty }

func (w faultyWatcher) RequestProgress(context.Context) error { return nil }
func (w faultyWatcher) Close() error                          { return nil }

func (w faultyWatcher) Watch(ctx context.Context, key string, opts ...clientv3.OpOption) clientv3.WatchChan {
	base, _, _, broken := w.f.get()
	in, out := base.Watcher.Watch(ctx, key, opts...), make(chan clientv3.WatchResponse)
	go func() {
		defer close(out)
		for r := range in {
			_, _, running, _ := w.f.get()
			select {
			case <-running:
			case <-broken:
				return
			case <-ctx.Done():
				return
			}
			select {
			case out <- r:
			case <-broken:
				return
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// startEtcd runs an etcd of the test's own.
func startEtcd(t *testing.T, dir string) *embedded.Server {
	t.Helper()
	e, err := embedded.Start(t.Context(), embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// openFaulty opens a store over a client that can be made to fail.
func openFaulty(t *testing.T, f *faulty, replica string, staleness time.Duration) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Client: f.client(), Replica: replica, Staleness: staleness})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// eventually waits until cond holds. It looks again and again; what it waits
// for has no channel.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("did not come: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

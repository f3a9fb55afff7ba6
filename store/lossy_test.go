package store_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"

	"go.etcd.io/etcd/client/v3"
)

var errLost = errors.New("no answer came")

// lossy is a client whose transactions that write lose their answers: sent and
// answered, sent and not answered, never sent, or sent late, after whoever
// waited was told that no answer came.
type lossy struct {
	clientv3.KV
	mu   sync.Mutex
	rand *rand.Rand
	off  bool
	late sync.WaitGroup
	hold chan struct{} // closed: what is late is sent
	// before runs once, before the next transaction that writes a use or call.
	before func()
}

func newLossy(base *clientv3.Client, seed uint64) (*lossy, *clientv3.Client) {
	l := &lossy{KV: base.KV, rand: rand.New(rand.NewPCG(seed, 1)), hold: make(chan struct{})}
	c := clientv3.NewCtxClient(context.Background())
	c.KV, c.Watcher, c.Lease, c.Maintenance, c.Cluster = l, base.Watcher, base.Lease, base.Maintenance, base.Cluster
	return l, c
}

// fate of the next transaction.
func (l *lossy) fate() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.off {
		return 0
	}
	return l.rand.IntN(6)
}

// interpose runs fn before the next transaction of a use.
func (l *lossy) interpose(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.before = fn
}

func (l *lossy) between(uses bool) (fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if uses {
		fn, l.before = l.before, nil
	}
	return fn
}

// calm ends the losses.
func (l *lossy) calm() {
	l.mu.Lock()
	l.off = true
	l.mu.Unlock()
}

// storm begins the losses anew.
func (l *lossy) storm(seed uint64) {
	l.mu.Lock()
	l.off, l.rand = false, rand.New(rand.NewPCG(seed, 1))
	l.mu.Unlock()
}

// release sends what is late and waits for it.
func (l *lossy) release() {
	l.mu.Lock()
	close(l.hold)
	l.hold = make(chan struct{})
	l.mu.Unlock()
	l.late.Wait()
}

func (l *lossy) Txn(ctx context.Context) clientv3.Txn {
	return &lossyTxn{Txn: l.KV.Txn(ctx), l: l, late: l.KV.Txn(context.WithoutCancel(ctx))}
}

type lossyTxn struct {
	clientv3.Txn
	late   clientv3.Txn // the same, for one that is sent late
	l      *lossy
	writes bool
	uses   bool // of a grant, or calls
}

func (t *lossyTxn) If(cs ...clientv3.Cmp) clientv3.Txn {
	t.Txn, t.late = t.Txn.If(cs...), t.late.If(cs...)
	return t
}

func (t *lossyTxn) Then(ops ...clientv3.Op) clientv3.Txn {
	for _, o := range ops {
		t.writes = t.writes || o.IsPut() || o.IsDelete()
		t.uses = t.uses || o.IsPut() && strings.Contains(string(o.KeyBytes()), "/use/") || strings.Contains(string(o.KeyBytes()), "/call/")
	}
	t.Txn, t.late = t.Txn.Then(ops...), t.late.Then(ops...)
	return t
}

func (t *lossyTxn) Commit() (*clientv3.TxnResponse, error) {
	if !t.writes {
		return t.Txn.Commit()
	}
	if fn := t.l.between(t.uses); fn != nil {
		fn()
	}
	switch t.l.fate() {
	case 0, 1, 2:
		return t.Txn.Commit()
	case 3:
		return nil, errLost
	case 4:
		_, _ = t.Txn.Commit()
		return nil, errLost
	}
	t.l.mu.Lock()
	hold := t.l.hold
	t.l.mu.Unlock()
	t.l.late.Go(func() {
		<-hold
		_, _ = t.late.Commit()
	})
	return nil, errLost
}

package store_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// losing is a client whose next transactions lose their answers: some before
// the store hears of them, some after they took effect.
type losing struct {
	clientv3.KV
	before, after atomic.Int32
}

var errUnheard = status.Error(codes.Unavailable, "the member died")

func (l *losing) Txn(ctx context.Context) clientv3.Txn { return &losingTxn{l.KV.Txn(ctx), l} }

type losingTxn struct {
	clientv3.Txn
	l *losing
}

func (t *losingTxn) If(c ...clientv3.Cmp) clientv3.Txn  { t.Txn = t.Txn.If(c...); return t }
func (t *losingTxn) Then(o ...clientv3.Op) clientv3.Txn { t.Txn = t.Txn.Then(o...); return t }
func (t *losingTxn) Commit() (*clientv3.TxnResponse, error) {
	if t.l.before.Add(-1) >= 0 {
		return nil, errUnheard
	}
	r, err := t.Txn.Commit()
	if t.l.after.Add(-1) >= 0 {
		return nil, errUnheard
	}
	return r, err
}

// What etcd's members lose the answer to is done once, and its caller learns so.
func TestALostAnswerIsLookedUp(t *testing.T) {
	t.Parallel()
	e := startEtcd(t, storetest.Dir(t))
	c := clientv3.NewCtxClient(context.Background())
	l := &losing{KV: e.Client().KV}
	c.KV, c.Watcher, c.Lease, c.Maintenance, c.Cluster = l, e.Client().Watcher, e.Client().Lease, e.Client().Maintenance, e.Client().Cluster
	s, err := store.Open(t.Context(), store.Config{Client: c, Replica: "one", Staleness: time.Minute}) // few beats come between
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, lose := range map[string]*atomic.Int32{"before it took effect": &l.before, "after it took effect": &l.after} {
		task := storetest.NewTask(s.Now())
		lose.Store(1)
		rev, err := s.CreateTask(t.Context(), task)
		if err != nil {
			t.Fatalf("the answer was lost %s: %v", name, err)
		}
		lose.Store(1)
		ended, endRev, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndCompleted))
		if err != nil || ended.State != policy.Ended || endRev <= rev {
			t.Errorf("the answer was lost %s: %+v at %d after %d, %v", name, ended.State, endRev, rev, err)
		}
	}
	// A claim is a conflict: its value may be another's.
	b := s.Bucket("claims")
	l.after.Store(1)
	if _, err := b.Swap(t.Context(), "job", 0, []byte("mine")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a claim whose answer was lost: %v", err)
	}
	// What is lost again and again is an error, not an answer.
	l.before.Store(100)
	if _, err := s.CreateTask(t.Context(), storetest.NewTask(s.Now())); err == nil {
		t.Error("a store that never answers made a task")
	}
	l.before.Store(0)
}

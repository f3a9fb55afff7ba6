package store

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
)

// elections are those of a process that is alone: the lock on the data folder
// makes it the only one, and only within it there may be two who want to do
// the same.
type elections struct {
	mu sync.Mutex
	by map[string]chan struct{}
}

// seat gives the one seat of an election: whoever puts something in has it.
func (e *elections) seat(name string) chan struct{} {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.by == nil {
		e.by = make(map[string]chan struct{})
	}
	if e.by[name] == nil {
		e.by[name] = make(chan struct{}, 1)
	}
	return e.by[name]
}

// leadership is what a leader's context carries: the key that it leads by.
type leadership struct {
	key string
	rev int64 // the key's create revision
}

type leadershipKey struct{}

// leads compares that ctx's leader leads yet; nothing when ctx is of none.
func leads(ctx context.Context) []clientv3.Cmp {
	if l, ok := ctx.Value(leadershipKey{}).(leadership); ok {
		return []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(l.key), "=", l.rev)}
	}
	return nil
}

// leadsYet asks etcd whether ctx's leader leads; true when ctx is of none.
func (s *Store) leadsYet(ctx context.Context) bool {
	cmps := leads(ctx)
	if len(cmps) == 0 {
		return true
	}
	r, err := s.client.Txn(ctx).If(cmps...).Commit()
	return err == nil && r.Succeeded
}

// Lead runs fn whenever this process holds the named election, with a context
// that ends with leadership; it returns when ctx ends.
//
// For a while after leadership ended there may be two doers: etcd's view of a
// lease and ours differ by as much as a message takes. What fn does must be
// safe with two, as every compare-and-swap is.
func (s *Store) Lead(ctx context.Context, name string, fn func(context.Context)) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(s.ctx, cancel)
	defer stop()
	for ctx.Err() == nil {
		if s.alone {
			s.leadAlone(ctx, name, fn)
		} else if err := s.leadOnce(ctx, name, fn); err != nil && ctx.Err() == nil {
			s.log.Warn("an election failed and is held again", "election", name, "error", err)
		}
		if !pause(ctx, retryWait) {
			return
		}
	}
}

func (s *Store) leadAlone(ctx context.Context, name string, fn func(context.Context)) {
	seat := s.local.seat(name)
	select {
	case seat <- struct{}{}:
		defer func() { <-seat }()
		fn(ctx)
	case <-ctx.Done():
	}
}

// leadOnce campaigns under a lease of its own, leads until that, fn or ctx
// ends, and resigns.
func (s *Store) leadOnce(ctx context.Context, name string, fn func(context.Context)) error {
	session, err := concurrency.NewSession(s.client, concurrency.WithTTL(int(s.leaseSeconds())), concurrency.WithContext(ctx))
	if err != nil {
		return err
	}
	defer s.endSession(session)
	e := concurrency.NewElection(session, join(prefixElection, name))
	if err := e.Campaign(ctx, s.cfg.Replica); err != nil {
		return err
	}
	ctx = context.WithValue(ctx, leadershipKey{}, leadership{e.Key(), e.Rev()})
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-session.Done():
			cancel()
		case <-stop:
		}
	}()
	fn(ctx)
	return nil
}

// endSession gives up the lease and with it the election, even when the
// context that it was made with has ended.
func (s *Store) endSession(session *concurrency.Session) {
	session.Orphan()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(session.Ctx()), time.Second)
	defer cancel()
	if _, err := s.client.Revoke(ctx, session.Lease()); err != nil {
		s.log.Info("an election's lease runs out by itself", "error", err)
	}
}

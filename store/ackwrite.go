package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// lease is this process's; what it acknowledges to others is under it and
// goes with it.
type lease struct {
	mu sync.Mutex
	id clientv3.LeaseID // 0: none
}

// lost makes the next use take a new lease.
func (l *lease) lost() { l.take() }

// take takes the lease away.
func (l *lease) take() clientv3.LeaseID {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := l.id
	l.id = clientv3.NoLease
	return id
}

// is reports whether id is the lease in use.
func (l *lease) is(id clientv3.LeaseID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.id == id
}

// leaseID gives this process's lease, taking one if need be.
func (s *Store) leaseID(ctx context.Context) (clientv3.LeaseID, error) {
	l := &s.acks.lease
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id != clientv3.NoLease {
		return l.id, nil
	}
	asked := time.Now()
	granted, err := s.client.Grant(ctx, s.leaseSeconds())
	if err != nil {
		return 0, err
	}
	l.id = granted.ID
	s.spawn(func() { s.keepLease(granted.ID, asked) })
	return l.id, nil
}

// keepLease keeps the lease until it ends. What was under it is gone then and
// is written again, under another. (The client's own way is one stream to one
// member, which may hang for as long as that member does.)
func (s *Store) keepLease(id clientv3.LeaseID, kept time.Time) {
	ttl := time.Duration(s.leaseSeconds()) * time.Second
	for time.Since(kept) < ttl && s.acks.lease.is(id) {
		if !pause(s.ctx, ttl/8) {
			return
		}
		asked := time.Now()
		ctx, cancel := context.WithTimeout(s.ctx, ttl/4)
		_, err := s.client.KeepAliveOnce(ctx, id)
		cancel()
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			break
		}
		if err == nil {
			kept = asked
		}
	}
	if s.ctx.Err() == nil {
		if s.acks.lease.is(id) {
			s.acks.lease.lost()
		}
		s.acks.rewrite()
	}
}

// leaseSeconds: a process that is gone is noticed soon after its index went
// stale, and not before.
func (s *Store) leaseSeconds() int64 {
	return int64((s.cfg.Staleness + time.Second - 1) / time.Second)
}

// rewrite marks every connected instance as unwritten.
func (a *acks) rewrite() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range a.local {
		a.unwritten[i] = struct{}{}
	}
	a.write()
}

// ackOps are the puts of this replica's acknowledgements, per role.
func (s *Store) ackOps(ctx context.Context) ([]clientv3.Op, error) {
	roles := s.acks.roles()
	if s.alone || len(roles) == 0 {
		return nil, nil
	}
	id, err := s.leaseID(ctx)
	if err != nil {
		return nil, err
	}
	ack := string(encode(&record.ReplicaAck{Version: version, Revision: s.acks.acked.Load()}))
	ops := make([]clientv3.Op, 0, len(roles)+1)
	for _, role := range roles {
		ops = append(ops, clientv3.OpPut(keyReplica(role, s.cfg.Replica), ack, clientv3.WithLease(id)))
	}
	return ops, nil
}

// flushAcks writes what changed, coalesced: while one write is under way, what
// comes gathers for the next.
func (s *Store) flushAcks() {
	for {
		select {
		case <-s.acks.dirty:
		case <-s.ctx.Done():
			return
		}
		err := s.flush(s.ctx)
		if err == nil || s.ctx.Err() != nil {
			continue
		}
		s.log.Warn("acknowledgements could not be written", "error", err)
		if !pause(s.ctx, retryWait) {
			return
		}
		s.acks.write()
	}
}

func (s *Store) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Staleness)
	defer cancel()
	ops, err := s.ackOps(ctx)
	if err != nil {
		return err
	}
	if len(ops) > 0 {
		if _, err := s.client.Txn(ctx).Then(ops...).Commit(); err != nil {
			return s.ackError(err)
		}
	}
	for _, i := range s.acks.takeUnwritten() {
		if err := s.writeInstance(ctx, i); err != nil {
			s.acks.giveBack(i)
			return s.ackError(err)
		}
	}
	return nil
}

func (s *Store) ackError(err error) error {
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.acks.lease.lost()
	}
	return err
}

func (a *acks) takeUnwritten() []policy.Instance {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]policy.Instance, 0, len(a.unwritten))
	for i := range a.unwritten {
		list = append(list, i)
	}
	clear(a.unwritten)
	return list
}

func (a *acks) giveBack(i policy.Instance) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.unwritten[i] = struct{}{}
}

// writeInstance writes one instance's state, or removes the key if it is
// still this process's: the sidecar may have connected to another meanwhile.
func (s *Store) writeInstance(ctx context.Context, i policy.Instance) error {
	key := keyInstance(i)
	ack, ok := s.acks.localInstance(i)
	if !ok {
		r, err := s.client.Get(ctx, key)
		if err != nil || len(r.Kvs) == 0 {
			return err
		}
		if owner := instanceOwner(r.Kvs[0]); owner != s.cfg.Replica {
			return nil
		}
		_, err = s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", r.Kvs[0].ModRevision)).
			Then(clientv3.OpDelete(key)).Commit()
		return err
	}
	id, err := s.leaseID(ctx)
	if err != nil {
		return err
	}
	value := encode(&record.InstanceAck{
		Version: version, Replica: s.cfg.Replica, Ready: ack.Ready, Cut: ack.Cut, Rejected: ack.Rejected, Envoy: ack.Version,
	})
	_, err = s.client.Put(ctx, key, string(value), clientv3.WithLease(id))
	return err
}

func instanceOwner(kv *mvccpb.KeyValue) string {
	r := new(record.InstanceAck)
	if decode(kv.Value, r) != nil {
		return ""
	}
	return r.GetReplica()
}

func (a *acks) localInstance(i policy.Instance) (InstanceAck, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	ack, ok := a.local[i]
	return ack, ok
}

// unregister tells the others that this process no longer answers for role,
// so that nobody waits for it.
func (s *Store) unregister(role string) {
	ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Staleness)
	defer cancel()
	key := keyReplica(role, s.cfg.Replica)
	left := string(encode(&record.ReplicaAck{Version: version, Left: true}))
	_, err := s.client.Put(ctx, key, left)
	if err == nil {
		_, err = s.client.Delete(ctx, key)
	}
	if err != nil {
		s.log.Warn("leaving could not be told; others wait until the lease runs out", "role", role, "error", err)
	}
}

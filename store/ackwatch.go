package store

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const prefixAck = root + "ack/"

// followAcks follows what other processes acknowledge.
func (s *Store) followAcks() {
	for {
		seen := make(map[string]bool)
		header, err := scan(s.ctx, s.client.KV, prefixAck, func(kv *mvccpb.KeyValue) {
			seen[string(kv.Key)] = true
			s.acks.apply(s.cfg.Replica, &clientv3.Event{Type: mvccpb.PUT, Kv: kv})
		})
		if err == nil {
			s.acks.keep(seen)
			s.acks.changed.send()
			err = watch(s.ctx, s.client.Watcher, prefixAck, header.Revision, nil, func(r clientv3.WatchResponse) error {
				for _, ev := range r.Events {
					s.acks.apply(s.cfg.Replica, ev)
				}
				s.acks.changed.send()
				return nil
			})
		}
		if s.ctx.Err() != nil {
			return
		}
		s.log.Warn("acknowledgements are read anew", "error", err)
		if !pause(s.ctx, retryWait) {
			return
		}
	}
}

// apply takes in one change below ack/ that another process made.
func (a *acks) apply(self string, ev *clientv3.Event) {
	key := string(ev.Kv.Key)
	gone := ev.Type == mvccpb.DELETE
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := names(key, prefixReplica, 2); n != nil && n[1] != self {
		a.applyReplica(replicaKey{n[0], n[1]}, ev.Kv, gone)
	} else if n := names(key, prefixInstance, 1); n != nil {
		a.applyInstance(policy.Instance(n[0]), self, ev.Kv, gone)
	}
}

func (a *acks) applyReplica(k replicaKey, kv *mvccpb.KeyValue, gone bool) {
	r := a.replicas[k]
	if r != nil && kv.ModRevision <= r.mod {
		return // older than what was read meanwhile
	}
	if gone {
		if r != nil && r.gone.IsZero() {
			r.mod, r.gone = kv.ModRevision, time.Now()
		}
		return
	}
	ack := new(record.ReplicaAck)
	if decode(kv.Value, ack) != nil {
		ack = new(record.ReplicaAck) // acknowledges nothing: it is waited for
	}
	if ack.GetLeft() {
		delete(a.replicas, k)
		return
	}
	a.replicas[k] = &replica{rev: ack.GetRevision(), mod: kv.ModRevision}
}

func (a *acks) applyInstance(i policy.Instance, self string, kv *mvccpb.KeyValue, gone bool) {
	r := new(record.InstanceAck)
	if gone || decode(kv.Value, r) != nil || r.GetReplica() == self {
		delete(a.remote, i)
		return
	}
	a.remote[i] = InstanceAck{Instance: i, Ready: r.GetReady(), Cut: r.GetCut(), Rejected: r.GetRejected(), Version: r.GetEnvoy()}
}

// keep drops what a fresh reading no longer has.
func (a *acks) keep(seen map[string]bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for k, r := range a.replicas {
		if !seen[keyReplica(k.role, k.name)] && r.gone.IsZero() {
			r.gone = time.Now()
		}
	}
	for i := range a.remote {
		if !seen[keyInstance(i)] {
			delete(a.remote, i)
		}
	}
}

// beatOf takes in another process's beat. One that says it answers for a role
// without being known as a replica of it lost its lease: it may still answer
// until the staleness bound has passed.
func (a *acks) beatOf(b beatOf) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, role := range b.GetRoles() {
		k := replicaKey{role, b.replica}
		if a.replicas[k] == nil {
			a.replicas[k] = &replica{gone: time.Now()}
		}
	}
}

// refreshReplicas reads who the live replicas of role are now: the watch may
// not have shown one that joined before the caller's revision.
func (s *Store) refreshReplicas(ctx context.Context, role string) error {
	r, err := s.client.Get(ctx, join(prefixReplica, role, ""), clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, kv := range r.Kvs {
		s.acks.apply(s.cfg.Replica, &clientv3.Event{Type: mvccpb.PUT, Kv: kv})
	}
	return nil
}

package store

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// deletesPerTxn is below what any etcd takes in one transaction.
const deletesPerTxn = 100

// RaiseFloor revokes everything in scope made before: one write.
func (s *Store) RaiseFloor(ctx context.Context, scope policy.Scope) (int64, error) {
	rev, _, err := s.Revoke(ctx, scope, "")
	return rev, err
}

// Revoke ends everything in scope made before, in somebody's name: one write.
// It gives the revision and the time from which on that holds.
//
// Out of space etcd takes no write but a deletion. Then the records under the
// scope are deleted (absence means ended): for everything or for one task in
// one write; for an agent its tasks, for an owner or a capability its grants,
// in several. Nothing can be created meanwhile, so the revision of the last
// deletion is that of the floor.
func (s *Store) Revoke(ctx context.Context, scope policy.Scope, by string) (int64, time.Time, error) {
	const op = "raise floor"
	cause := policy.Cause{Reason: policy.EndRevoked, By: by, At: s.Now()}
	ok, rev, err := s.commit(ctx, op, nil, clientv3.OpPut(keyFloor(scope), string(encodeFloor(cause))))
	if err == nil && !ok {
		err = ErrConflict
	}
	if errors.Is(err, ErrFull) {
		rev, err = s.endOutOfSpace(ctx, op, scope)
		cause.At = s.Now()
	}
	return rev, cause.At, err
}

// endOutOfSpace ends what is in scope by deleting it.
func (s *Store) endOutOfSpace(ctx context.Context, op string, scope policy.Scope) (int64, error) {
	s.log.Warn("out of space: what is in scope is deleted", "scope", scope.Kind)
	switch scope.Kind {
	case policy.ScopeAll:
		_, rev, err := s.commit(ctx, op, nil, clientv3.OpDelete(prefixTask, clientv3.WithPrefix()))
		return rev, err
	case policy.ScopeTask:
		_, rev, err := s.commit(ctx, op, nil, clientv3.OpDelete(keyTask(policy.TaskID(scope.Name))))
		return rev, err
	case policy.ScopeAgent:
		return s.deleteWhere(ctx, op, prefixTask, func(kv *mvccpb.KeyValue) bool { return taskUnder(kv, scope) })
	default:
		return s.deleteWhere(ctx, op, prefixGrant, func(kv *mvccpb.KeyValue) bool { return grantUnder(kv, scope) })
	}
}

// taskUnder errs towards yes: a record that cannot be read is under any scope.
func taskUnder(kv *mvccpb.KeyValue, scope policy.Scope) bool {
	n := names(string(kv.Key), prefixTask, 1)
	if n == nil {
		return true
	}
	t, err := decodeTask(policy.TaskID(n[0]), kv.Value)
	return err != nil || t.Agent == scope.Name
}

func grantUnder(kv *mvccpb.KeyValue, scope policy.Scope) bool {
	n := names(string(kv.Key), prefixGrant, 2)
	if n == nil {
		return true
	}
	g, err := decodeGrant(policy.TaskID(n[0]), policy.GrantID(n[1]), kv.Value)
	return err != nil || slices.Contains(policy.ScopesOf(g), scope)
}

// deleteWhere deletes the keys under prefix for which in holds.
func (s *Store) deleteWhere(ctx context.Context, op, prefix string, in func(*mvccpb.KeyValue) bool) (int64, error) {
	var dels []clientv3.Op
	header, err := scan(ctx, s.client.KV, prefix, func(kv *mvccpb.KeyValue) {
		if in(kv) {
			dels = append(dels, clientv3.OpDelete(string(kv.Key)))
		}
	})
	if err != nil {
		return 0, s.txnError(op, err)
	}
	rev := header.Revision
	for part := range slices.Chunk(dels, deletesPerTxn) {
		if _, rev, err = s.commit(ctx, op, nil, part...); err != nil {
			return 0, err
		}
	}
	return rev, nil
}

package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Each transaction returns the store revision at which it took effect.

// errIdentity: a change made something into something else.
var errIdentity = errors.New("a change may not alter what a record is of")

// CreateTask writes a new task. It is refused with ErrFloor when all or the
// agent's was revoked after what this process had seen when the call began,
// with ErrConflict when the task is there already, and with ErrFull.
func (s *Store) CreateTask(ctx context.Context, t policy.Task) (int64, error) {
	const op = "create task"
	seen := s.index.Revision()
	if t.ID == "" || t.State == policy.Ended {
		return 0, fmt.Errorf("%s: %w", op, errIdentity)
	}
	if err := s.room(); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	scopes := []policy.Scope{{Kind: policy.ScopeAll}, {Kind: policy.ScopeAgent, Name: t.Agent}}
	cmps := append(floorsAt(seen, scopes), absent(keyTask(t.ID)))
	ok, rev, err := s.commit(ctx, op, cmps, clientv3.OpPut(keyTask(t.ID), string(encodeTask(t))))
	if err != nil || ok {
		return rev, err
	}
	raised, err := s.raisedAfter(ctx, op, seen, scopes)
	if err != nil {
		return 0, err
	}
	if raised {
		return 0, fmt.Errorf("%s: %w", op, ErrFloor)
	}
	return 0, fmt.Errorf("%s: %w", op, ErrConflict)
}

// ChangeTask applies fn to the task by compare-and-swap. When the result is
// Ended, the same transaction is the ending of all its grants (the index folds
// a task's end into its grants; the sweeper later tombstones each). fn may run more than once.
//
// An error of fn comes back with the task as it is and the revision of its
// last change. A fn that changes nothing writes nothing. Out of space, an
// ending deletes the record instead: absence means ended.
func (s *Store) ChangeTask(ctx context.Context, id policy.TaskID, fn func(policy.Task) (policy.Task, error)) (policy.Task, int64, error) {
	const op = "change task"
	for {
		t, kv, err := s.readTask(ctx, op, id)
		if err != nil {
			return policy.Task{}, 0, err
		}
		next, err := fn(t)
		if err != nil {
			return t, kv.ModRevision, err
		}
		if next.ID != t.ID || next.Agent != t.Agent || next.Instance != t.Instance {
			return t, kv.ModRevision, errIdentity
		}
		value := encodeTask(next)
		if bytes.Equal(value, kv.Value) {
			return t, kv.ModRevision, nil
		}
		ok, rev, err := s.putOrEnd(ctx, op, next.State == policy.Ended, []clientv3.Cmp{unchanged(kv)},
			[]clientv3.Op{clientv3.OpPut(string(kv.Key), string(value))},
			[]clientv3.Op{clientv3.OpDelete(string(kv.Key))})
		if err != nil || ok {
			return next, rev, err
		}
	}
}

// putOrEnd does puts; when etcd is out of space and this is an ending, deletes.
func (s *Store) putOrEnd(ctx context.Context, op string, ending bool, cmps []clientv3.Cmp, puts, deletes []clientv3.Op) (bool, int64, error) {
	ok, rev, err := s.commit(ctx, op, cmps, puts...)
	if ending && errors.Is(err, ErrFull) {
		s.log.Warn("out of space: an ending deletes its record", "operation", op)
		if ok, rev, err = s.commit(ctx, op, cmps, deletes...); err == nil && !ok {
			// The very write that fills etcd is refused and done all the same.
			rev, ok, err = s.tookEffect(ctx, puts)
			return ok, rev, s.txnError(op, err)
		}
	}
	return ok, rev, err
}

// readTask reads a task from etcd, as of now.
func (s *Store) readTask(ctx context.Context, op string, id policy.TaskID) (policy.Task, *mvccpb.KeyValue, error) {
	kvs, err := s.read(ctx, op, keyTask(id))
	if err != nil {
		return policy.Task{}, nil, err
	}
	if kvs[0] == nil {
		return policy.Task{}, nil, fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	t, err := decodeTask(id, kvs[0].Value)
	if err != nil {
		return policy.Task{}, nil, fmt.Errorf("%s: %w", op, err)
	}
	return t, kvs[0], nil
}

// GetTask reads through to etcd (linearizable).
func (s *Store) GetTask(ctx context.Context, id policy.TaskID) (policy.Task, error) {
	t, _, err := s.readTask(ctx, "get task", id)
	return t, err
}

// DropTask forgets an ended task with all that was kept under it (retention): its grants' tombstones, credentials, cut keys, approvals, touches, uses and calls.
// A task that has not ended is ErrConflict; one that is not there is no error.
func (s *Store) DropTask(ctx context.Context, id policy.TaskID) error {
	const op = "drop task"
	cmp := absent(keyTask(id))
	t, kv, err := s.readTask(ctx, op, id)
	switch {
	case errors.Is(err, ErrNotFound): // it ended out of space; its grants are left
	case err != nil:
		return err
	case t.State != policy.Ended:
		return fmt.Errorf("%s: %w", op, ErrConflict)
	default:
		cmp = unchanged(kv)
	}
	ok, _, err := s.commit(ctx, op, []clientv3.Cmp{cmp},
		clientv3.OpDelete(keyTask(id)),
		clientv3.OpDelete(keyGrants(id), clientv3.WithPrefix()),
		clientv3.OpDelete(keyCredentials(id), clientv3.WithPrefix()),
		clientv3.OpDelete(keyCuts(id), clientv3.WithPrefix()),
		clientv3.OpDelete(keyApprovals(id), clientv3.WithPrefix()),
		clientv3.OpDelete(keyTouches(id), clientv3.WithPrefix()),
		clientv3.OpDelete(keyUses(id), clientv3.WithPrefix()),
		clientv3.OpDelete(keyCalls(id), clientv3.WithPrefix()),
		clientv3.OpDelete(keyFloor(policy.Scope{Kind: policy.ScopeTask, Name: string(id)})))
	if err == nil && !ok {
		err = fmt.Errorf("%s: %w", op, ErrConflict)
	}
	return err
}

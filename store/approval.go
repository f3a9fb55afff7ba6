package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// CreatePending writes a request that people decide on and its grants, which are
// pending, in one transaction. It compares what CreateGrants does, and has its
// errors.
func (s *Store) CreatePending(ctx context.Context, seen int64, a policy.Approval, gs ...policy.Grant) (int64, error) {
	const op = "create pending grants"
	if !a.ID.Valid() || len(a.Items) != len(gs) {
		return 0, fmt.Errorf("%s: %w", op, errIdentity)
	}
	for i, g := range gs {
		if g.State != policy.Pending || g.Approval != a.ID || g.Task != a.Task || a.Items[i].Grant != g.ID {
			return 0, fmt.Errorf("%s: %w", op, errIdentity)
		}
	}
	put := clientv3.OpPut(keyApproval(a.Task, a.ID), string(encodeApproval(a)))
	return s.createGrants(ctx, op, seen, []clientv3.Op{put}, gs)
}

// Asked is a request that people decide on as the store has it: its grants are
// in the order of its items, and one that is no more is there with no state.
type Asked struct {
	Approval policy.Approval
	Grants   []policy.Grant
}

// keptAsked is one as it was read, with what is compared.
type keptAsked struct {
	Asked
	kv   *mvccpb.KeyValue
	held []keptGrant
}

// GetApproval reads through to etcd (linearizable), or ErrNotFound.
func (s *Store) GetApproval(ctx context.Context, id policy.ApprovalID) (Asked, error) {
	k, err := s.readAsked(ctx, "get approval", id)
	return k.Asked, err
}

// taskOfApproval is as the index knows it; a request that the index does not
// know yet is looked for.
func (s *Store) taskOfApproval(ctx context.Context, op string, id policy.ApprovalID) (policy.TaskID, error) {
	if task := s.index.TaskOfApproval(id); task != "" {
		return task, nil
	}
	if err := s.index.fresh.awaitSince(ctx, time.Now()); err != nil {
		return "", fmt.Errorf("%s: %w", op, err)
	}
	task := s.index.TaskOfApproval(id)
	if task == "" {
		return "", fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	return task, nil
}

// tries of a change that others keep changing the ground of.
const tries = 8

// ChangeApproval applies fn to a request and its grants by compare-and-swap, all
// of it in one transaction: it compares that nothing of it changed and, when a
// grant becomes active, that the task is active, that no floor rose since the
// grant was made and that the catalog in force is the one which fn put down as
// the grant's. Its errors are those of ChangeGrant, ErrFull and fn's own, with
// which what was read comes back. fn may run more than once.
func (s *Store) ChangeApproval(ctx context.Context, id policy.ApprovalID, fn func(Asked) (Asked, error)) (Asked, int64, error) {
	const op = "change approval"
	for range tries {
		k, err := s.readAsked(ctx, op, id)
		if err != nil {
			return Asked{}, 0, err
		}
		next, err := fn(k.clone())
		if err != nil {
			return k.Asked, k.kv.ModRevision, err
		}
		cmps, puts, err := s.changesOf(ctx, op, k, next)
		if err != nil || len(puts) == 0 {
			return k.Asked, k.kv.ModRevision, err
		}
		ok, rev, err := s.commit(ctx, op, cmps, puts...)
		if err != nil || ok {
			return next, rev, err
		}
	}
	return Asked{}, 0, fmt.Errorf("%s: %w", op, ErrConflict)
}

// clone keeps fn's hands off what is compared.
func (k keptAsked) clone() Asked {
	return Asked{Approval: k.Approval, Grants: slices.Clone(k.Grants)}
}

func (s *Store) changesOf(ctx context.Context, op string, k keptAsked, next Asked) ([]clientv3.Cmp, []clientv3.Op, error) {
	if next.Approval.ID != k.Approval.ID || next.Approval.Task != k.Approval.Task || len(next.Grants) != len(k.Grants) {
		return nil, nil, errIdentity
	}
	cmps := []clientv3.Cmp{unchanged(k.kv)}
	var puts []clientv3.Op
	if value := encodeApproval(next.Approval); !bytes.Equal(value, k.kv.Value) {
		puts = append(puts, clientv3.OpPut(string(k.kv.Key), string(value)))
	}
	var active []int
	for i, held := range k.held {
		if held.kv == nil {
			continue // it is no more, and so cannot change
		}
		cmps = append(cmps, unchanged(held.kv))
		value := encodeGrant(next.Grants[i])
		if bytes.Equal(value, held.kv.Value) {
			continue
		}
		switch {
		case !sameGrant(held.grant, next.Grants[i]):
			return nil, nil, errIdentity
		case held.grant.State != policy.Pending: // what was active ChangeGrant alone changes, which cuts
			return nil, nil, fmt.Errorf("%s: a grant is not pending: %w", op, ErrConflict)
		case next.Grants[i].State == policy.Active:
			active = append(active, i)
		}
		puts = append(puts, clientv3.OpPut(string(held.kv.Key), string(value)))
	}
	if len(active) == 0 {
		return cmps, puts, nil
	}
	more, err := s.become(ctx, op, k, next, active)
	return append(cmps, more...), puts, err
}

// become gives the comparisons under which pending grants may become active.
// They were made at one revision and belong to one task. Their owners may be
// others by now, whose floors count as well.
func (s *Store) become(ctx context.Context, op string, k keptAsked, next Asked, active []int) ([]clientv3.Cmp, error) {
	if err := s.room(); err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	cat := s.index.state.Load().catalog.Load()
	made := k.held[active[0]].kv.CreateRevision
	var gs []policy.Grant
	for _, i := range active {
		if cat.compiled == nil || cat.compiled.Revision() != next.Grants[i].Catalog || k.held[i].kv.CreateRevision != made {
			return nil, fmt.Errorf("%s: another catalog is in force: %w", op, ErrConflict)
		}
		gs = append(gs, k.held[i].grant, next.Grants[i])
	}
	cmps, err := s.activeStill(ctx, op, k.held[active[0]])
	if err != nil {
		return nil, err
	}
	scopes := scopesOf(gs)
	raised, err := s.raisedAfter(ctx, op, made, scopes)
	if err != nil {
		return nil, err
	}
	if raised {
		return nil, fmt.Errorf("%s: %w", op, ErrFloor)
	}
	first := policy.ScopesOf(k.held[active[0]].grant) // compared already; etcd bounds how many comparisons there are
	scopes = slices.DeleteFunc(scopes, func(sc policy.Scope) bool { return slices.Contains(first, sc) })
	cmps = append(cmps, floorsAt(made, scopes)...)
	return append(cmps, clientv3.Compare(clientv3.ModRevision(keyCatalog), "=", cat.rev)), nil
}

// readAsked reads a request, its task and its grants as of one moment. The
// grants' names are in the request and never change.
func (s *Store) readAsked(ctx context.Context, op string, id policy.ApprovalID) (k keptAsked, err error) {
	task, err := s.taskOfApproval(ctx, op, id)
	if err != nil {
		return k, err
	}
	first, err := s.read(ctx, op, keyApproval(task, id))
	if err != nil {
		return k, err
	}
	if first[0] == nil {
		return k, fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	a, err := decodeApproval(task, id, first[0].Value)
	if err != nil {
		return k, fmt.Errorf("%s: %w", op, err)
	}
	keys := []string{keyApproval(task, id), keyTask(task)}
	for _, i := range a.Items {
		keys = append(keys, keyGrant(task, i.Grant))
	}
	kvs, err := s.read(ctx, op, keys...)
	if err != nil {
		return k, err
	}
	if kvs[0] == nil { // dropped with its task just now
		return k, fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	return s.keptOf(op, task, id, kvs)
}

// keptOf decodes a request, its task and its grants.
func (*Store) keptOf(op string, task policy.TaskID, id policy.ApprovalID, kvs []*mvccpb.KeyValue) (k keptAsked, err error) {
	k.kv = kvs[0]
	if k.Approval, err = decodeApproval(task, id, k.kv.Value); err != nil {
		return k, fmt.Errorf("%s: %w", op, err)
	}
	for i, kv := range kvs[2:] {
		g, err := heldOf(task, k.Approval.Items[i].Grant, kv, kvs[1])
		if err != nil {
			return k, fmt.Errorf("%s: %w", op, err)
		}
		k.held, k.Grants = append(k.held, g), append(k.Grants, g.grant)
	}
	return k, nil
}

// heldOf decodes a grant that may be no more.
func heldOf(task policy.TaskID, id policy.GrantID, kv, tkv *mvccpb.KeyValue) (k keptGrant, err error) {
	k.grant = policy.Grant{ID: id, Task: task}
	if kv == nil {
		return k, nil
	}
	k.kv, k.tkv = kv, tkv
	if k.grant, err = decodeGrant(task, id, kv.Value); err != nil || tkv == nil {
		return k, err
	}
	t, err := decodeTask(task, tkv.Value)
	k.task = &t
	return k, err
}

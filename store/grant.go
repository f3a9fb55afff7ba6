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

// MaxGrants is how many grants one transaction makes at most: etcd bounds a
// transaction, and each grant takes some comparisons.
const MaxGrants = 32

// ErrBatch: the grants cannot be made in one transaction.
var ErrBatch = fmt.Errorf("want 1 to %d grants of one task, one agent and one catalog", MaxGrants)

// CreateGrants writes grants in one transaction that compares: the task is
// active and unchanged, the catalog in force is the grants', the agent is not suspended, what
// they renew is active and unchanged, and no floor of theirs rose above index revision `seen`.
// Who the agent is, is written down with each.
//
// Errors: ErrNotFound (no task, or nothing to renew), ErrConflict (task or renewed grant not
// active, another catalog, a grant is there already), ErrFloor, ErrSuspended, ErrFull, ErrBatch.
func (s *Store) CreateGrants(ctx context.Context, seen int64, gs ...policy.Grant) (int64, error) {
	return s.createGrants(ctx, "create grants", seen, nil, gs)
}

// createGrants does more puts in the same transaction.
func (s *Store) createGrants(ctx context.Context, op string, seen int64, more []clientv3.Op, gs []policy.Grant) (int64, error) {
	if err := sameBatch(gs); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	if err := s.room(); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	scopes := scopesOf(gs)
	for {
		t, kv, err := s.readTask(ctx, op, gs[0].Task)
		if err != nil {
			return 0, err
		}
		cat := s.index.state.Load().catalog.Load()
		if !t.Live(s.Now()) || !owns(t, gs[0]) || cat.compiled == nil || cat.compiled.Revision() != gs[0].Catalog {
			return 0, fmt.Errorf("%s: %w", op, ErrConflict)
		}
		agent, ok := cat.compiled.Agent(t.Agent)
		if !ok {
			return 0, fmt.Errorf("%s: the catalog has no such agent: %w", op, ErrConflict)
		}
		cmps := append(floorsAt(seen, scopes), unchanged(kv), absent(keyAgent(t.Agent)),
			clientv3.Compare(clientv3.ModRevision(keyCatalog), "=", cat.rev))
		renewed, err := s.renewable(ctx, op, gs)
		if err != nil {
			return 0, err
		}
		cmps = append(cmps, renewed...)
		puts := slices.Clone(more)
		for _, g := range gs {
			g.AgentDigest = agent.Digest()
			key := keyGrant(g.Task, g.ID)
			cmps = append(cmps, absent(key))
			puts = append(puts, clientv3.OpPut(key, string(encodeGrant(g))))
		}
		done, rev, err := s.commit(ctx, op, cmps, puts...)
		if err != nil || done {
			return rev, err
		}
		if err := s.whyNotCreated(ctx, op, seen, scopes, kv); err != nil {
			return 0, err
		}
	}
}

// whyNotCreated explains a failed transaction; nil when the task changed
// meanwhile and another try may do.
func (s *Store) whyNotCreated(ctx context.Context, op string, seen int64, scopes []policy.Scope, task *mvccpb.KeyValue) error {
	for _, sc := range scopes {
		if sc.Kind == policy.ScopeAgent {
			if err := s.suspendedNow(ctx, op, sc.Name); err != nil {
				return err
			}
		}
	}
	raised, err := s.raisedAfter(ctx, op, seen, scopes)
	if err != nil {
		return err
	}
	if raised {
		return fmt.Errorf("%s: %w", op, ErrFloor)
	}
	kvs, err := s.read(ctx, op, string(task.Key))
	if err != nil {
		return err
	}
	if kvs[0] != nil && kvs[0].ModRevision != task.ModRevision {
		return nil
	}
	return fmt.Errorf("%s: %w", op, ErrConflict)
}

func sameBatch(gs []policy.Grant) error {
	if len(gs) == 0 || len(gs) > MaxGrants {
		return ErrBatch
	}
	ids := make(map[policy.GrantID]bool, len(gs))
	for _, g := range gs {
		if g.ID == "" || ids[g.ID] || g.Task != gs[0].Task || g.Agent != gs[0].Agent || g.Instance != gs[0].Instance || g.Catalog != gs[0].Catalog {
			return ErrBatch
		}
		ids[g.ID] = true
	}
	return nil
}

func owns(t policy.Task, g policy.Grant) bool {
	return t.ID == g.Task && t.Agent == g.Agent && t.Instance == g.Instance
}

// scopesOf lists the scopes of all grants, each once.
func scopesOf(gs []policy.Grant) []policy.Scope {
	var list []policy.Scope
	done := make(map[policy.Scope]bool)
	for _, g := range gs {
		for _, sc := range policy.ScopesOf(g) {
			if !done[sc] {
				done[sc] = true
				list = append(list, sc)
			}
		}
	}
	return list
}

// ChangeGrant applies fn by compare-and-swap. When the result is Ended after having been
// Active, the same transaction writes the cut key of (instance, task,
// destination). Out of space, an ending deletes the record instead.
//
// Becoming active compares that the task is active and that no floor rose
// since the grant was made: ErrConflict, ErrFloor. An error of fn comes back
// with the grant as it is and the revision of its last change. A fn that
// changes nothing writes nothing.
func (s *Store) ChangeGrant(ctx context.Context, task policy.TaskID, id policy.GrantID, fn func(policy.Grant) (policy.Grant, error)) (policy.Grant, int64, error) {
	const op = "change grant"
	for {
		kept, err := s.readKept(ctx, op, task, id)
		if err != nil {
			return policy.Grant{}, 0, err
		}
		next, err := fn(kept.grant)
		if err != nil {
			return kept.grant, kept.kv.ModRevision, err
		}
		if !sameGrant(kept.grant, next) {
			return kept.grant, kept.kv.ModRevision, errIdentity
		}
		value := encodeGrant(next)
		if bytes.Equal(value, kept.kv.Value) {
			return kept.grant, kept.kv.ModRevision, nil
		}
		ok, rev, err := s.changeGrant(ctx, op, kept, next, value)
		if err != nil || ok {
			return next, rev, err
		}
	}
}

// keptGrant is a grant and its task as they were read.
type keptGrant struct {
	grant policy.Grant
	kv    *mvccpb.KeyValue
	task  *policy.Task // nil: there is none
	tkv   *mvccpb.KeyValue
}

func (s *Store) changeGrant(ctx context.Context, op string, k keptGrant, next policy.Grant, value []byte) (bool, int64, error) {
	cmps := []clientv3.Cmp{unchanged(k.kv)}
	puts := []clientv3.Op{clientv3.OpPut(string(k.kv.Key), string(value))}
	was := k.grant.State
	switch {
	case next.State == policy.Active && was != policy.Active:
		more, err := s.activeStill(ctx, op, k)
		if err != nil {
			return false, 0, err
		}
		cmps = append(cmps, more...)
	case next.State == policy.Ended && (was == policy.Active || was == policy.Paused) && k.task != nil:
		// Without a task there is nothing to be cut but the room, which is
		// gone, and nothing would remove the key.
		cmps = append(cmps, clientv3.Compare(clientv3.CreateRevision(string(k.tkv.Key)), "=", k.tkv.CreateRevision))
		if s.raised(k) {
			break // the floor has cut it; a key of its own would cut once more what began since
		}
		puts = append(puts, clientv3.OpPut(keyCut(next.Task, next.Destination), string(encodeMark(s.Now()))))
	}
	deletes := []clientv3.Op{
		clientv3.OpDelete(string(k.kv.Key)), clientv3.OpDelete(keyCredential(next.Task, next.ID)),
	}
	return s.putOrEnd(ctx, op, next.State == policy.Ended, cmps, puts, deletes)
}

// raised reports whether a floor that this process knows of has ended the grant.
func (s *Store) raised(k keptGrant) bool {
	for _, sc := range policy.ScopesOf(k.grant) {
		if s.index.Floor(sc).Revision() > k.kv.CreateRevision {
			return true
		}
	}
	return false
}

// renewable gives the comparisons under which what is renewed still is active:
// whoever revokes a grant must not find that it was renewed at the same moment.
func (s *Store) renewable(ctx context.Context, op string, gs []policy.Grant) ([]clientv3.Cmp, error) {
	var cmps []clientv3.Cmp
	for _, g := range gs {
		if g.Renews == "" {
			continue
		}
		k, err := s.readKept(ctx, op, g.Task, g.Renews)
		if err != nil {
			return nil, err
		}
		if !k.grant.Live(s.Now()) {
			return nil, fmt.Errorf("%s: what is to be renewed is not active: %w", op, ErrConflict)
		}
		cmps = append(cmps, unchanged(k.kv))
	}
	return cmps, nil
}

// activeStill gives the comparisons under which a grant may become or stay
// active, or the error that it may not.
func (s *Store) activeStill(ctx context.Context, op string, k keptGrant) ([]clientv3.Cmp, error) {
	if k.task == nil || !k.task.Live(s.Now()) {
		return nil, fmt.Errorf("%s: the task is not active: %w", op, ErrConflict)
	}
	scopes := policy.ScopesOf(k.grant)
	raised, err := s.raisedAfter(ctx, op, k.kv.CreateRevision, scopes)
	if err != nil {
		return nil, err
	}
	if raised {
		return nil, fmt.Errorf("%s: %w", op, ErrFloor)
	}
	return append(floorsAt(k.kv.CreateRevision, scopes), unchanged(k.tkv)), nil
}

// readKept reads a grant and its task from etcd, as of one moment.
func (s *Store) readKept(ctx context.Context, op string, task policy.TaskID, id policy.GrantID) (k keptGrant, err error) {
	kvs, err := s.read(ctx, op, keyGrant(task, id), keyTask(task))
	if err != nil {
		return k, err
	}
	if kvs[0] == nil {
		return k, fmt.Errorf("%s: %w", op, ErrNotFound)
	}
	k.kv, k.tkv = kvs[0], kvs[1]
	if k.grant, err = decodeGrant(task, id, k.kv.Value); err != nil {
		return k, fmt.Errorf("%s: %w", op, err)
	}
	if k.tkv != nil {
		t, err := decodeTask(task, k.tkv.Value)
		if err != nil {
			return k, fmt.Errorf("%s: %w", op, err)
		}
		k.task = &t
	}
	return k, nil
}

// GetGrant reads through to etcd (linearizable). Its task is the one that the
// index knows; a grant that the index does not know yet is looked for.
func (s *Store) GetGrant(ctx context.Context, id policy.GrantID) (policy.Grant, error) {
	const op = "get grant"
	task := s.index.TaskOfGrant(id)
	if task == "" {
		if err := s.index.fresh.awaitSince(ctx, time.Now()); err != nil {
			return policy.Grant{}, fmt.Errorf("%s: %w", op, err)
		}
		if task = s.index.TaskOfGrant(id); task == "" {
			return policy.Grant{}, fmt.Errorf("%s: %w", op, ErrNotFound)
		}
	}
	k, err := s.readKept(ctx, op, task, id)
	return k.grant, err
}

// PutCredential stores a grant's sealed credential if the grant is active and no floor rose; else ErrConflict/ErrFloor.
func (s *Store) PutCredential(ctx context.Context, task policy.TaskID, c policy.SealedCredential) (int64, error) {
	const op = "put credential"
	if err := s.room(); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	for {
		k, err := s.readKept(ctx, op, task, c.Grant)
		if err != nil {
			return 0, err
		}
		if !k.grant.Live(s.Now()) {
			return 0, fmt.Errorf("%s: the grant is not active: %w", op, ErrConflict)
		}
		cmps, err := s.activeStill(ctx, op, k)
		if err != nil {
			return 0, err
		}
		ok, rev, err := s.commit(ctx, op, append(cmps, unchanged(k.kv)),
			clientv3.OpPut(keyCredential(task, c.Grant), string(encodeCredential(c))))
		if err != nil || ok {
			return rev, err
		}
	}
}

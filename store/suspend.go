package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// ErrSuspended: the agent is suspended, and may begin nothing.
var ErrSuspended = errors.New("the agent is suspended")

// Suspend suspends an agent and ends all its grants, in one transaction. An
// agent that is suspended already stays so, by whom it was and since then; what
// it may still have had ends all the same.
//
// Out of space the agent's tasks are deleted, which ends them, and the error is
// ErrFull: the suspension itself could not be written.
func (s *Store) Suspend(ctx context.Context, sus policy.Suspension) (policy.Suspension, int64, error) {
	const op = "suspend agent"
	sus.At = s.Now()
	scope := policy.Scope{Kind: policy.ScopeAgent, Name: sus.Agent}
	cause := policy.Cause{Reason: policy.EndAgentSuspended, By: sus.By, At: sus.At}
	floor := clientv3.OpPut(keyFloor(scope), string(encodeFloor(cause)))
	for {
		kvs, err := s.read(ctx, op, keyAgent(sus.Agent))
		if err != nil {
			return sus, 0, err
		}
		cmp, puts := absent(keyAgent(sus.Agent)), []clientv3.Op{floor}
		if kv := kvs[0]; kv != nil {
			cmp, sus = unchanged(kv), *decodeSuspension(sus.Agent, kv)
		} else {
			puts = append(puts, clientv3.OpPut(keyAgent(sus.Agent), string(encodeSuspension(sus))))
		}
		ok, rev, err := s.commit(ctx, op, []clientv3.Cmp{cmp}, puts...)
		if errors.Is(err, ErrFull) {
			return s.suspendFull(ctx, sus, scope, err)
		}
		if err != nil || ok {
			sus.Revision = rev
			return sus, rev, err
		}
	}
}

func (s *Store) suspendFull(ctx context.Context, sus policy.Suspension, scope policy.Scope, full error) (policy.Suspension, int64, error) {
	rev, err := s.endOutOfSpace(ctx, "suspend agent", scope)
	return sus, rev, errors.Join(full, err)
}

// Resume lets an agent begin again. Nothing that ended comes back. An agent
// that is not suspended is ErrNotFound.
func (s *Store) Resume(ctx context.Context, agent string) (int64, error) {
	const op = "resume agent"
	for {
		kvs, err := s.read(ctx, op, keyAgent(agent))
		if err != nil {
			return 0, err
		}
		if kvs[0] == nil {
			return 0, fmt.Errorf("%s: %w", op, ErrNotFound)
		}
		ok, rev, err := s.commit(ctx, op, []clientv3.Cmp{unchanged(kvs[0])}, clientv3.OpDelete(keyAgent(agent)))
		if err != nil || ok {
			return rev, err
		}
	}
}

// suspendedNow tells why a comparison with an agent's suspension may have failed.
func (s *Store) suspendedNow(ctx context.Context, op, agent string) error {
	kvs, err := s.read(ctx, op, keyAgent(agent))
	if err == nil && kvs[0] != nil {
		err = fmt.Errorf("%s: %w", op, ErrSuspended)
	}
	return err
}

func encodeSuspension(sus policy.Suspension) []byte {
	return encode(&record.Suspension{Version: version, By: sus.By, Why: sus.Why, Time: nanos(sus.At)})
}

// decodeSuspension reads what it can: a record that cannot be read suspends too.
func decodeSuspension(agent string, kv *mvccpb.KeyValue) *policy.Suspension {
	r := new(record.Suspension)
	if err := decode(kv.Value, r); err != nil {
		r = &record.Suspension{Why: "its record cannot be read"}
	}
	return &policy.Suspension{Agent: agent, By: r.GetBy(), Why: r.GetWhy(), At: fromNanos(r.GetTime()), Revision: kv.ModRevision}
}

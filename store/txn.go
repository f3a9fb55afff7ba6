package store

import (
	"context"
	"errors"
	"fmt"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// noSpace: etcd refuses whatever would add to it.
func noSpace(err error) bool { return errors.Is(err, rpctypes.ErrNoSpace) }

// txnError puts an error of etcd into this package's words. The text names
// the operation, never a value.
func (s *Store) txnError(op string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.ctx.Err() != nil:
		return ErrClosed
	case noSpace(err):
		return fmt.Errorf("%s: %w", op, errFull)
	default:
		return fmt.Errorf("%s: %w", op, err)
	}
}

// commit does ops if every comparison holds. It returns the revision at which
// they took effect.
func (s *Store) commit(ctx context.Context, op string, cmps []clientv3.Cmp, ops ...clientv3.Op) (bool, int64, error) {
	for _, o := range ops {
		if o.IsPut() && len(o.ValueBytes()) == 0 {
			return false, 0, fmt.Errorf("%s: %w", op, ErrRecord) // it could not be encoded
		}
	}
	r, lost, err := s.try(ctx, cmps, ops)
	if err == nil && lost && !r.Succeeded {
		if rev, done, err := s.tookEffect(ctx, ops); done || err != nil {
			return done, rev, s.txnError(op, err)
		}
	}
	if err != nil {
		return false, 0, s.txnError(op, err)
	}
	return r.Succeeded, r.Header.Revision, nil
}

// read gives the values of keys as of one moment, nil for an absent one.
func (s *Store) read(ctx context.Context, op string, keys ...string) ([]*mvccpb.KeyValue, error) {
	gets := make([]clientv3.Op, len(keys))
	for i, k := range keys {
		gets[i] = clientv3.OpGet(k)
	}
	r, _, err := s.try(ctx, nil, gets)
	if err != nil {
		return nil, s.txnError(op, err)
	}
	kvs := make([]*mvccpb.KeyValue, len(keys))
	for i, resp := range r.Responses {
		if found := resp.GetResponseRange().GetKvs(); len(found) > 0 {
			kvs[i] = found[0]
		}
	}
	return kvs, nil
}

// unchanged compares a key with what was read of it.
func unchanged(kv *mvccpb.KeyValue) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(string(kv.Key)), "=", kv.ModRevision)
}

func absent(key string) clientv3.Cmp {
	return clientv3.Compare(clientv3.ModRevision(key), "=", 0)
}

// floorsAt compares that no floor of these scopes was raised after rev.
func floorsAt(rev int64, scopes []policy.Scope) []clientv3.Cmp {
	cmps := make([]clientv3.Cmp, 0, len(scopes))
	done := make(map[policy.Scope]bool, len(scopes))
	for _, sc := range scopes {
		if !done[sc] {
			done[sc] = true
			cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(keyFloor(sc)), "<", rev+1))
		}
	}
	return cmps
}

// raisedAfter tells why a comparison with floors may have failed.
func (s *Store) raisedAfter(ctx context.Context, op string, rev int64, scopes []policy.Scope) (bool, error) {
	keys := make([]string, len(scopes))
	for i, sc := range scopes {
		keys[i] = keyFloor(sc)
	}
	kvs, err := s.read(ctx, op, keys...)
	for _, kv := range kvs {
		if kv != nil && kv.ModRevision > rev {
			return true, nil
		}
	}
	return false, err
}

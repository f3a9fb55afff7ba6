package store

import (
	"bytes"
	"context"
	"errors"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxTries bounds how often a transaction is asked for whose outcome is unknown.
const maxTries = 4

// try does a transaction that etcd's members may lose an answer of: the one
// that was asked died, hangs, or lost its leader. etcd itself gives up on such
// a one after several seconds; an election takes one.
//
// Asking again is safe: what it compares is what it changes, so that it cannot
// happen twice, however late the first one comes. lost tells that it was asked
// for again: if its comparisons fail now, it may be for its own first effect.
func (s *Store) try(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (r *clientv3.TxnResponse, lost bool, err error) {
	for n := 1; ; n++ {
		r, err = s.tryOnce(ctx, cmps, ops)
		if err == nil || n == maxTries || ctx.Err() != nil || !outcomeUnknown(err) {
			return r, n > 1, err
		}
		if !pause(ctx, retryWait) {
			return nil, true, err
		}
	}
}

func (s *Store) tryOnce(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Staleness)
	defer cancel()
	return s.client.Txn(ctx).If(cmps...).Then(ops...).Commit()
}

// outcomeUnknown: the store may or may not have done it.
func outcomeUnknown(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	var coded interface{ GRPCStatus() *status.Status }
	code := status.Code(err)
	if errors.As(err, &coded) {
		code = coded.GRPCStatus().Code()
	}
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}

// tookEffect looks up whether a transaction whose comparisons fail now had
// succeeded before, and at which revision: then what it puts first is there. No
// two writers put the same: each of this package's records holds a time or an
// ID of its own.
func (s *Store) tookEffect(ctx context.Context, ops []clientv3.Op) (int64, bool, error) {
	for _, o := range ops {
		if !o.IsPut() {
			continue
		}
		r, err := s.client.Get(ctx, string(o.KeyBytes()))
		if err != nil || len(r.Kvs) == 0 {
			return 0, false, err
		}
		return r.Kvs[0].ModRevision, bytes.Equal(r.Kvs[0].Value, o.ValueBytes()), nil
	}
	return 0, false, nil
}

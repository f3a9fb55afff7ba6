package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// maxCounted bounds what one call adds to a count of bytes.
const maxCounted = 1 << 50

// Settle takes in how a call ended: one that never reached the upstream gives
// its use back, of the whole chain; any other adds its bytes where they are
// limited. The same end counts once. A use that is not remembered any more is
// not given back; its bytes are counted.
//
// Nothing is made that is not there: what was dropped stays so. An error says
// that it may not have been taken in.
func (s *Store) Settle(ctx context.Context, u Use, end policy.CallEnd) error {
	const op = "settle use"
	for tries := 0; ; {
		cmps, puts, err := s.settling(ctx, op, u, end)
		if err != nil || len(puts) == 0 {
			return err
		}
		ok, _, err := s.commit(ctx, op, cmps, puts...)
		switch {
		case ok:
			return nil
		case err == nil: // it changed meanwhile
		case errors.Is(err, ErrFull), ctx.Err() != nil, tries == unknownTries:
			return err
		default: // unknown: the next look sees whether it came into effect
			tries++
		}
	}
}

// settling reads what was used and prepares the change. The revisions are
// compared, so that a lost transaction and its successor do not both count.
func (s *Store) settling(ctx context.Context, op string, u Use, end policy.CallEnd) (cmps []clientv3.Cmp, puts []clientv3.Op, err error) {
	keys := make([]string, len(u.Links))
	for i, l := range u.Links {
		keys[i] = keyUse(l.Task, l.Grant)
	}
	kvs, err := s.read(ctx, op, keys...)
	if err != nil {
		return nil, nil, err
	}
	now := s.Now()
	for i, kv := range kvs {
		op, changed, err := settled(kv, u.ID, u.Links[i].Limits, end, now)
		if err != nil {
			return nil, nil, fmt.Errorf("settle use: %w", err)
		}
		if changed {
			cmps, puts = append(cmps, unchanged(kv)), append(puts, op)
		}
	}
	return cmps, puts, nil
}

// settled is the put by which one grant's uses take the end in, if it changes them.
func settled(kv *mvccpb.KeyValue, id string, l policy.Limits, end policy.CallEnd, now time.Time) (put clientv3.Op, changed bool, err error) {
	if kv == nil {
		return put, false, nil
	}
	use, err := decodeUse(kv.Value)
	if err != nil {
		return put, false, err
	}
	if end.Unreached {
		changed = giveBack(&use, id)
	} else if l.Bytes > 0 {
		changed = count(&use, id, end.Bytes, now)
	}
	return clientv3.OpPut(string(kv.Key), string(encodeUse(use))), changed, nil
}

// giveBack takes a use away that came to nothing.
func giveBack(u *policy.Use, id string) bool {
	i := u.Find(id)
	if i < 0 || u.Recent[i].Back || u.Recent[i].Done || u.Used == 0 {
		return false
	}
	u.Recent = slices.Clone(u.Recent)
	u.Recent[i].Back = true
	u.Used--
	return true
}

// count adds a call's bytes, once.
func count(u *policy.Use, id string, bytes int64, now time.Time) bool {
	i := u.Find(id)
	if i >= 0 && (u.Recent[i].Done || u.Recent[i].Back) {
		return false
	}
	if i < 0 {
		u.Recent = remember(u.Recent, policy.RecentUse{ID: id, At: now}, now)
		i = len(u.Recent) - 1
	}
	u.Recent = slices.Clone(u.Recent)
	u.Recent[i].Done = true
	u.Bytes += min(max(bytes, 0), maxCounted)
	u.Bytes = min(u.Bytes, maxCounted)
	return true
}

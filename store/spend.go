package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// spend prepares the transaction. It is done without one when this very use
// was spent before, and when nothing limits it.
func (x *using) spend(now time.Time) (done bool, err error) {
	for _, l := range x.links {
		if !l.grant.Live(now) || !l.task.Live(now) {
			return false, ErrConflict
		}
	}
	if done, err := x.before(now); done || err != nil {
		return done, err
	}
	if err := x.within(now); err != nil {
		return false, err
	}
	x.cmps = x.floors()
	for _, l := range x.links {
		x.cmps = append(x.cmps, unchanged(l.gkv), unchanged(l.tkv))
		if l.Limits.Bound() {
			key := keyUse(l.Task, l.Grant)
			x.cmps = append(x.cmps, asRead(key, l.ukv))
			x.puts = append(x.puts, clientv3.OpPut(key, string(encodeUse(l.next))))
		}
	}
	if x.Call != "" {
		key := keyCall(x.last().Task, x.Call)
		x.cmps = append(x.cmps, absent(key))
		x.puts = append(x.puts, clientv3.OpPut(key, string(encodeCall(x.ID, now))))
	}
	return len(x.puts) == 0, nil
}

func (x *using) last() UseLink { return x.Links[len(x.Links)-1] }

// before looks for the same use, and for another one that made the same call.
func (x *using) before(now time.Time) (done bool, err error) {
	for _, l := range x.links {
		if i := l.use.Find(x.ID); i >= 0 {
			r := l.use.Recent[i]
			return again(r.At, now, r.Back || r.Done)
		}
	}
	if x.call != nil {
		use, at := decodeCall(x.call.Value)
		return again(at, now, use != x.ID)
	}
	if x.Call != "" && x.calls >= maxCalls {
		return false, errCalls
	}
	return false, nil
}

// again: what comes once more is the same Check while its call can still wait
// for the answer, and a replay ever after.
func again(at, now time.Time, other bool) (bool, error) {
	if other || now.Sub(at) > sameCheck {
		return false, ErrReplayed
	}
	return true, nil
}

// within holds every limit against this use.
func (x *using) within(now time.Time) error {
	var wait time.Duration
	for i := range x.links {
		l := &x.links[i]
		if l.use.Spent(l.Limits) {
			return ErrExhausted
		}
		full, after := l.Limits.Rate.Next(l.use.Full, now)
		wait = max(wait, after)
		l.next = policy.Use{
			Used: l.use.Used + 1, Bytes: l.use.Bytes, Full: full,
			Recent: remember(l.use.Recent, policy.RecentUse{ID: x.ID, At: now}, now),
		}
	}
	if wait > 0 {
		return &RateError{After: wait}
	}
	return nil
}

// remember adds a use and forgets those that are old or too many.
func remember(recent []policy.RecentUse, r policy.RecentUse, now time.Time) []policy.RecentUse {
	first := max(0, len(recent)+1-maxRecent)
	for first < len(recent) && now.Sub(recent[first].At) > keepRecent {
		first++
	}
	return append(slices.Clone(recent[first:]), r)
}

// floors compares that no floor rose since what is under it was made. Under
// one that several are under, that is since the first of them.
func (x *using) floors() []clientv3.Cmp {
	made := make(map[policy.Scope]int64)
	for _, l := range x.links {
		for _, sc := range policy.ScopesOf(l.grant) {
			if rev, ok := made[sc]; !ok || l.gkv.CreateRevision < rev {
				made[sc] = l.gkv.CreateRevision
			}
		}
	}
	cmps := make([]clientv3.Cmp, 0, len(made)+3*len(x.links)+1)
	for sc, rev := range made {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(keyFloor(sc)), "<", rev+1))
	}
	return cmps
}

// asRead compares a key with what was read of it, also when there was nothing.
func asRead(key string, kv *mvccpb.KeyValue) clientv3.Cmp {
	if kv == nil {
		return absent(key)
	}
	return unchanged(kv)
}

// whyNotUsed explains a failed transaction; nil when another try may do.
func (s *Store) whyNotUsed(ctx context.Context, op string, x *using) error {
	for _, l := range x.links {
		raised, err := s.raisedAfter(ctx, op, l.gkv.CreateRevision, policy.ScopesOf(l.grant))
		if err != nil {
			return err
		}
		if raised {
			return fmt.Errorf("%s: %w", op, ErrFloor)
		}
	}
	return nil
}

package store

import (
	"context"
	"crypto/rand"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// State identifies a state of the store. A later state of the same history
// has the same cluster and epoch and a higher revision.
type State struct {
	Cluster  uint64 // etcd's cluster ID
	Epoch    string // of the history; made anew when a restore is noticed
	Revision int64
}

// State is the one that the index shows.
func (s *Store) State() State {
	st := s.index.state.Load()
	return State{Cluster: st.cluster, Epoch: st.epochName(), Revision: s.index.Revision()}
}

// follows reports whether a store, with the names of the histories before its
// own, is s or a later state of it.
func (now State) follows(s State, before []string) bool {
	if s == (State{}) || slices.Contains(before, s.Epoch) {
		return true // nothing is vouched for, or the restore was noticed already
	}
	return now.Cluster == s.Cluster && now.Epoch == s.Epoch && now.Revision >= s.Revision
}

// begin names the store's history if it is new, and takes notice of a restore:
// what was revoked after the snapshot was taken must not come back, so all
// that was made before now ends. seen is the latest state that is vouched for.
func (s *Store) begin(ctx context.Context, seen State) error {
	for {
		r, err := s.client.Get(ctx, keyEpoch)
		if err != nil {
			return err
		}
		now := State{Cluster: r.Header.ClusterId, Revision: r.Header.Revision}
		old, mod := new(record.Epoch), int64(0)
		if len(r.Kvs) > 0 {
			mod = r.Kvs[0].ModRevision
			if err := decode(r.Kvs[0].Value, old); err != nil {
				return err
			}
			now.Epoch = old.GetId()
			if now.follows(seen, old.GetBefore()) {
				return nil
			}
			s.log.Warn("the store is behind what the record vouches for; it was restored, and all its tasks and grants end",
				"revision", now.Revision, "seen", seen.Revision)
			if _, err := endTasks(ctx, s.client, s.cfg.Wall()); err != nil {
				return err
			}
		}
		if ok, _, err := putEpoch(ctx, s.client, successor(old, seen.Epoch), mod, s.cfg.Wall()); ok || err != nil {
			return err
		}
	}
}

// successor is a history after old, and after the one that was seen.
func successor(old *record.Epoch, seen string) *record.Epoch {
	next := &record.Epoch{Version: version, Id: rand.Text(), Before: old.GetBefore()}
	for _, e := range []string{old.GetId(), seen} {
		if e != "" && !slices.Contains(next.Before, e) {
			next.Before = append(next.Before, e)
		}
	}
	return next
}

// putEpoch begins a history, in which nothing made before is active, if the
// one before is still at revision mod.
func putEpoch(ctx context.Context, client *clientv3.Client, next *record.Epoch, mod int64, at time.Time) (bool, int64, error) {
	r, err := client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(keyEpoch), "=", mod)).Then(
		clientv3.OpPut(keyEpoch, string(encode(next))),
		clientv3.OpPut(keyFloor(policy.Scope{Kind: policy.ScopeAll}), string(encodeMark(at))),
	).Commit()
	if err != nil {
		return false, 0, err
	}
	return r.Succeeded, r.Header.Revision, nil
}

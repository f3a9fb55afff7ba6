package store

import (
	"context"
	"crypto/rand"
	"slices"

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
// that was made before now ends.
func (s *Store) begin(ctx context.Context) error {
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
			if now.follows(s.cfg.Seen, old.GetBefore()) {
				return nil
			}
			s.log.Warn("the store is behind what the record vouches for; it was restored, and all its grants end",
				"revision", now.Revision, "seen", s.cfg.Seen.Revision)
		}
		if ok, err := s.newEpoch(ctx, old, mod); ok || err != nil {
			return err
		}
	}
}

// newEpoch begins another history, in which nothing made before is active.
func (s *Store) newEpoch(ctx context.Context, old *record.Epoch, mod int64) (bool, error) {
	next := &record.Epoch{Version: version, Id: rand.Text(), Before: old.GetBefore()}
	for _, e := range []string{old.GetId(), s.cfg.Seen.Epoch} {
		if e != "" && !slices.Contains(next.Before, e) {
			next.Before = append(next.Before, e)
		}
	}
	r, err := s.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(keyEpoch), "=", mod)).Then(
		clientv3.OpPut(keyEpoch, string(encode(next))),
		clientv3.OpPut(keyFloor(policy.Scope{Kind: policy.ScopeAll}), string(encodeMark(s.cfg.Wall()))),
	).Commit()
	return err == nil && r.Succeeded, err
}

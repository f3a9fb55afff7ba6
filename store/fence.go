package store

import (
	"context"
	"fmt"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Fenced says what Fence ended.
type Fenced struct {
	Tasks  int // that were not over
	Grants int // of any task, that were not over
	State  State
}

// Fence begins another history in a store that was put back from a backup and
// that nobody else uses yet. Nothing that was made before is active in it:
// what was revoked after the backup would be, else. What live processes alone
// hold (leases, acknowledgements, elections) is dropped. seen is the latest
// state that is vouched for, if any: it was before this one.
func Fence(ctx context.Context, client *clientv3.Client, seen State, now time.Time) (Fenced, error) {
	var f Fenced
	if _, err := client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return f, fmt.Errorf("fence: %w", err)
	}
	if err := dropLeases(ctx, client); err != nil {
		return f, fmt.Errorf("fence: %w", err)
	}
	for _, prefix := range []string{prefixAck, prefixElection} {
		if _, err := client.Delete(ctx, prefix, clientv3.WithPrefix()); err != nil {
			return f, fmt.Errorf("fence: %w", err)
		}
	}
	var err error
	if f.Grants, err = countGrants(ctx, client); err != nil {
		return f, fmt.Errorf("fence: %w", err)
	}
	if f.Tasks, err = endTasks(ctx, client, now); err != nil {
		return f, fmt.Errorf("fence: %w", err)
	}
	old, mod, header, err := readEpoch(ctx, client)
	if err != nil {
		return f, fmt.Errorf("fence: %w", err)
	}
	next := successor(old, seen.Epoch)
	ok, rev, err := putEpoch(ctx, client, next, mod, now)
	if err == nil && !ok {
		err = ErrConflict
	}
	if err != nil {
		return f, fmt.Errorf("fence: %w", err)
	}
	f.State = State{Cluster: header, Epoch: next.GetId(), Revision: rev}
	return f, nil
}

// dropLeases ends the leases of processes that are gone.
func dropLeases(ctx context.Context, client *clientv3.Client) error {
	leases, err := client.Leases(ctx)
	if err != nil {
		return err
	}
	for _, l := range leases.Leases {
		if _, err := client.Revoke(ctx, l.ID); err != nil {
			return err
		}
	}
	return nil
}

// countGrants counts the grants that are not over; one that cannot be read
// permits nothing and is none.
func countGrants(ctx context.Context, client *clientv3.Client) (n int, err error) {
	_, err = scan(ctx, client.KV, prefixGrant, func(kv *mvccpb.KeyValue) {
		id := names(string(kv.Key), prefixGrant, 2)
		if id == nil {
			return
		}
		g, err := decodeGrant(policy.TaskID(id[0]), policy.GrantID(id[1]), kv.Value)
		if err == nil && g.State != policy.Ended {
			n++
		}
	})
	return n, err
}

// endTasks ends every task that is not over, as revoked. A floor ends grants
// alone, and a task that was completed after the backup would go on.
func endTasks(ctx context.Context, client *clientv3.Client, now time.Time) (int, error) {
	var live []policy.Task
	var read []*mvccpb.KeyValue
	_, err := scan(ctx, client.KV, prefixTask, func(kv *mvccpb.KeyValue) {
		id := names(string(kv.Key), prefixTask, 1)
		if id == nil {
			return
		}
		if t, err := decodeTask(policy.TaskID(id[0]), kv.Value); err == nil && t.State != policy.Ended {
			live, read = append(live, t), append(read, kv)
		}
	})
	if err != nil {
		return 0, err
	}
	for i, t := range live {
		if t.Life, err = policy.Transition(t.Life, policy.End(policy.EndRevoked), now); err != nil {
			return 0, err
		}
		// Another that notices the restore at the same time does the same.
		_, err := client.Txn(ctx).If(unchanged(read[i])).Then(clientv3.OpPut(keyTask(t.ID), string(encodeTask(t)))).Commit()
		if err != nil {
			return 0, err
		}
	}
	return len(live), nil
}

// readEpoch gives the history's record, which may be none, the revision of its
// key and the cluster.
func readEpoch(ctx context.Context, client *clientv3.Client) (e *record.Epoch, mod int64, cluster uint64, err error) {
	e = new(record.Epoch)
	r, err := client.Get(ctx, keyEpoch)
	if err != nil {
		return nil, 0, 0, err
	}
	if len(r.Kvs) > 0 {
		mod, err = r.Kvs[0].ModRevision, decode(r.Kvs[0].Value, e)
	}
	return e, mod, r.Header.ClusterId, err
}

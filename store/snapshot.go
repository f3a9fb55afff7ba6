package store

import (
	"context"
	"fmt"
	"io"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Snapshot copies the whole store to w as etcd's snapshot API gives it, its
// SHA-256 at the end, as of one moment. It gives the latest change that was in
// the store when it was asked: a copy that is older is of a member that lags.
//
// It holds task credentials as they are, and sealed keys and credentials.
func (s *Store) Snapshot(ctx context.Context, w io.Writer) (latest int64, err error) {
	latest, err = Copy(ctx, s.client, w)
	return latest, s.txnError("snapshot", err)
}

// Copy is Snapshot of whatever store a client is connected to.
func Copy(ctx context.Context, client *clientv3.Client, w io.Writer) (latest int64, err error) {
	r, err := client.Get(ctx, root, append(clientv3.WithLastRev(), clientv3.WithPrefix(), clientv3.WithKeysOnly())...)
	if err != nil {
		return 0, err
	}
	for _, kv := range r.Kvs {
		latest = kv.ModRevision
	}
	from, err := client.Snapshot(ctx)
	if err != nil {
		return 0, err
	}
	defer from.Close()
	if _, err := io.Copy(w, from); err != nil {
		return 0, fmt.Errorf("snapshot: %w", err)
	}
	return latest, nil
}

// Snapshot is the method of the same name for a store that this process does
// not use otherwise; a folder must not be in use by another (ErrLocked).
func Snapshot(ctx context.Context, cfg Config, w io.Writer) (latest int64, err error) {
	s := newStore(cfg)
	defer s.Close()
	if err := s.connect(ctx); err != nil {
		return 0, err
	}
	return s.Snapshot(ctx, w)
}

// Lock takes a data folder for this process alone, as Open does, or gives
// ErrLocked. It makes the folder if need be.
func Lock(dir string) (unlock func(), err error) { return lockDir(dir) }

// EtcdDir is where an embedded etcd keeps its data below a data folder.
func EtcdDir(dir string) string { return etcdDir(dir) }

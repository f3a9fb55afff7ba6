package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/exeat-dev/exeat/store/record"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// PublishCatalog makes source (opaque bytes; gzip JSON of a v1alpha1.Set) the
// catalog in force, if leader still leads. Publishing what is in force already
// changes nothing and returns the revision at which it was published.
//
// The leader is the one whose context Lead made: with it, or one derived from
// it, the transaction compares that this process leads yet, else ErrConflict.
// A source that does not compile is refused (*CatalogError): no replica could
// serve it.
func (s *Store) PublishCatalog(ctx context.Context, source []byte) (int64, error) {
	const op = "publish catalog"
	if _, err := compileSource(source); err != nil {
		return 0, fmt.Errorf("%s: %w", op, err)
	}
	value := encode(&record.Catalog{Version: version, Source: source})
	for {
		kvs, err := s.read(ctx, op, keyCatalog)
		if err != nil {
			return 0, err
		}
		cmp := absent(keyCatalog)
		if kv := kvs[0]; kv != nil {
			if bytes.Equal(kv.Value, value) {
				return kv.ModRevision, nil
			}
			cmp = unchanged(kv)
		}
		ok, rev, err := s.commit(ctx, op, append(leads(ctx), cmp), clientv3.OpPut(keyCatalog, string(value)))
		if err != nil || ok {
			return rev, err
		}
		if !s.leadsYet(ctx) {
			return 0, fmt.Errorf("%s: no longer the leader: %w", op, ErrConflict)
		}
	}
}

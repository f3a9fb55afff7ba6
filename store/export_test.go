package store

import (
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/policy"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// KeysOf counts the keys, wherever they are, that name a task.
func (s *Store) KeysOf(t testing.TB, id policy.TaskID) (n int) {
	t.Helper()
	r, err := s.client.Get(t.Context(), root, clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range r.Kvs {
		if strings.Contains(string(kv.Key), string(id)) {
			n++
		}
	}
	return n
}

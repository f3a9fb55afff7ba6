package store

import (
	"context"
	"fmt"

	"github.com/exeat-dev/exeat/policy"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// roleAuthz is the role whose replicas judge calls by what tasks have touched.
const roleAuthz = "authz"

// Touch makes it durable that a task reaches t, and returns once every live
// authz replica knows: a call that is judged from then on, by whichever of
// them, is judged with it. made reports whether this call wrote it. No check
// of this process may be running on behalf of the caller meanwhile: the
// replica would wait for itself.
//
// Errors: ErrNotFound (no task), ErrFull, ctx's when it could not be confirmed
// in time. What was written then stays written.
func (s *Store) Touch(ctx context.Context, task policy.TaskID, t policy.Touch) (made bool, err error) {
	const op = "touch"
	if err := s.room(); err != nil {
		return false, fmt.Errorf("%s: %w", op, err)
	}
	key := keyTouch(task, t)
	there := clientv3.Compare(clientv3.CreateRevision(keyTask(task)), ">", 0)
	made, rev, err := s.commit(ctx, op, []clientv3.Cmp{there, absent(key)}, clientv3.OpPut(key, string(encodeMark(s.Now()))))
	if err != nil {
		return false, err
	}
	if !made {
		kvs, err := s.read(ctx, op, keyTask(task), key)
		if err != nil {
			return false, err
		}
		if kvs[0] == nil || kvs[1] == nil {
			return false, fmt.Errorf("%s: %w", op, ErrNotFound)
		}
		rev = kvs[1].ModRevision // another check's, which may not be known everywhere yet
	}
	return made, s.AwaitReplicas(ctx, roleAuthz, rev)
}

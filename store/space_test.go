package store_test

import (
	"bytes"
	"errors"
	"strconv"
	"testing"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

const tinyQuota = 4 << 20

// fill writes until etcd takes no more, and gives what frees it again.
func fill(t *testing.T, s *store.Store) (free func()) {
	t.Helper()
	b, blob := s.Bucket("filler"), bytes.Repeat([]byte("x"), 128<<10)
	var revs []int64
	for {
		rev, err := b.Swap(t.Context(), strconv.Itoa(len(revs)), 0, blob)
		if errors.Is(err, store.ErrFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, rev)
	}
	return func() {
		for n, rev := range revs {
			if err := b.Delete(t.Context(), strconv.Itoa(n), rev); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestPastTheSoftLimitOnlyEndingsWork(t *testing.T) {
	t.Parallel()
	s, task := opened(t, storetest.WithQuota(tinyQuota))
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	b, blob := s.Bucket("filler"), bytes.Repeat([]byte("x"), 128<<10)
	var revs []int64
	for n := range tinyQuota * 8 / 10 / len(blob) {
		rev, err := b.Swap(t.Context(), strconv.Itoa(n), 0, blob)
		if err != nil {
			t.Fatal(err)
		}
		revs = append(revs, rev)
	}
	eventually(t, "a task is refused", func() bool {
		_, err := s.CreateTask(t.Context(), storetest.NewTask(s.Now()))
		return errors.Is(err, store.ErrFull)
	})
	if _, err := s.CreateGrants(t.Context(), s.Index().Revision(), storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-2")); !errors.Is(err, store.ErrFull) {
		t.Errorf("a grant: %v", err)
	}
	if _, err := s.PutCredential(t.Context(), task.ID, sealed(g)); !errors.Is(err, store.ErrFull) {
		t.Errorf("a credential: %v", err)
	}
	_, rev, err := s.ChangeGrant(t.Context(), task.ID, g.ID, endGrant(s, policy.EndRevoked))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	if h := held(s, g); h == nil || h.Grant.End != policy.EndRevoked {
		t.Errorf("there is space for a tombstone, and the grant is %+v", h)
	}
	for n, rev := range revs {
		if err := b.Delete(t.Context(), strconv.Itoa(n), rev); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "tasks are taken again", func() bool {
		_, err := s.CreateTask(t.Context(), storetest.NewTask(s.Now()))
		return err == nil
	})
}

// Where etcd takes no write but deletions, absence means ended.
func TestOutOfSpaceEndingsStillEnd(t *testing.T) {
	t.Parallel()
	for name, ending := range map[string]func(*testing.T, *store.Store, policy.Task, policy.Grant) (int64, error){
		"a grant": func(t *testing.T, s *store.Store, task policy.Task, g policy.Grant) (int64, error) {
			_, rev, err := s.ChangeGrant(t.Context(), task.ID, g.ID, endGrant(s, policy.EndRevoked))
			return rev, err
		},
		"a task": func(t *testing.T, s *store.Store, task policy.Task, _ policy.Grant) (int64, error) {
			_, rev, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndFailed))
			return rev, err
		},
		"everything":   raise(policy.Scope{Kind: policy.ScopeAll}),
		"an agent":     raise(policy.Scope{Kind: policy.ScopeAgent, Name: storetest.Agent}),
		"an owner":     raise(policy.Scope{Kind: policy.ScopeOwner, Name: storetest.Owner}),
		"a capability": raise(policy.Scope{Kind: policy.ScopeCapability, Name: storetest.ReadTicket}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, task := opened(t, storetest.WithQuota(tinyQuota))
			g, other := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1"), storetest.Grant(t, s, task, storetest.EditTicket, "OPS-1")
			free := fill(t, s)
			rev, err := ending(t, s, task, g)
			if err != nil {
				t.Fatal(err)
			}
			storetest.Await(t, s, rev)
			if h := held(s, g); h != nil && h.Grant.State == policy.Active && !h.Raised() {
				t.Error("the grant is active yet")
			}
			if name == "a grant" || name == "a capability" {
				// The other grant's chain is still there: its streams are cut once.
				if v := s.Index().Task(task.ID); v.Cuts[storetest.Destination] != rev || held(s, other).Grant.State != policy.Active {
					t.Errorf("want a cut at %d, and the other grant as it was: %v", rev, v.Cuts)
				}
			}
			free()
			eventually(t, "there is space again, without anybody's doing", func() bool {
				_, err := s.CreateTask(t.Context(), storetest.NewTask(s.Now()))
				return err == nil
			})
			eventually(t, "fresh", func() bool { return s.Index().Fresh(t.Context()) })
		})
	}
}

func raise(scope policy.Scope) func(*testing.T, *store.Store, policy.Task, policy.Grant) (int64, error) {
	return func(t *testing.T, s *store.Store, _ policy.Task, _ policy.Grant) (int64, error) {
		return s.RaiseFloor(t.Context(), scope)
	}
}

// What ended by deletion is still ended after a restart, and can be dropped.
func TestWhatIsLeftOfADeletedTaskHasEnded(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	s, task := opened(t, storetest.WithDir(dir), storetest.WithQuota(tinyQuota))
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	free := fill(t, s)
	if _, _, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndFailed)); err != nil {
		t.Fatal(err)
	}
	free()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = storetest.Open(t, storetest.WithDir(dir), storetest.WithQuota(tinyQuota))
	v := s.Index().Task(task.ID)
	if v == nil || v.Task.State != policy.Ended || len(v.Held) != 1 || v.Held[0].Grant.State != policy.Ended {
		t.Fatalf("left is %+v", v)
	}
	if len(s.Index().Instance(task.Instance)) != 1 {
		t.Error("its instance does not know that there is something to be cut")
	}
	if err := s.DropTask(t.Context(), task.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Index().AwaitTask(t.Context(), g.Task, func(v *policy.TaskView) bool { return v == nil }); err != nil {
		t.Fatal(err)
	}
}

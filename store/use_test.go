package store_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// limited makes an active grant with so many uses, and what uses it.
func limited(t *testing.T, s *store.Store, task policy.Task, uses int64) (policy.Grant, func(id string) store.Use) {
	t.Helper()
	g := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-1")
	g.MaxUses = uses
	rev, err := s.CreateGrants(t.Context(), s.Index().Revision(), g)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	return g, func(id string) store.Use { return useOf(g, id) }
}

func useOf(g policy.Grant, id string) store.Use {
	return store.Use{UseRequest: policy.UseRequest{ID: id}, Links: []store.UseLink{{Task: g.Task, Grant: g.ID}}}
}

func TestAGrantIsUsedSoOftenAndNoOftener(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g, use := limited(t, s, task, 3)
	for n := range 3 {
		got, err := s.Consume(t.Context(), use(fmt.Sprint("c", n)))
		if err != nil || got.Used != int64(n+1) {
			t.Fatalf("use %d: %+v, %v", n, got, err)
		}
	}
	if got, err := s.Consume(t.Context(), use("c3")); !errors.Is(err, store.ErrExhausted) || got.Used != 3 {
		t.Errorf("one more: %+v, %v", got, err)
	}
	// The index comes to know it, and a policy that reads it denies early.
	v, err := s.Index().AwaitTask(t.Context(), task.ID, func(v *policy.TaskView) bool { return v.Held[0].Use.Used == 3 })
	if err != nil || v.Held[0].Grant.ID != g.ID || len(v.Held[0].Use.Recent) != 3 {
		t.Errorf("the index shows %+v, %v", v, err)
	}
}

func TestTheSameCheckSpendsOnce(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	_, use := limited(t, s, task, 1)
	for range 3 {
		if got, err := s.Consume(t.Context(), use("same")); err != nil || got.Used != 1 {
			t.Fatalf("%+v, %v", got, err)
		}
	}
}

func TestACheckThatComesAgainMuchLaterIsAReplay(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	s, task := opened(t, storetest.WithWall(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
	_, use := limited(t, s, task, 5)
	if _, err := s.Consume(t.Context(), use("same")); err != nil {
		t.Fatal(err)
	}
	ahead.Store(int64(11 * time.Second))
	if _, err := s.Consume(t.Context(), use("same")); !errors.Is(err, store.ErrReplayed) {
		t.Errorf("got %v", err)
	}
}

func TestOnlyAConnectFailureGivesAUseBackAndOnlyOnce(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	_, use := limited(t, s, task, 2)
	for _, id := range []string{"a", "b"} {
		if _, err := s.Consume(t.Context(), use(id)); err != nil {
			t.Fatal(err)
		}
	}
	settle := func(id string, end policy.CallEnd) {
		t.Helper()
		if err := s.Settle(t.Context(), use(id), end); err != nil {
			t.Fatal(err)
		}
	}
	settle("a", policy.CallEnd{Bytes: 7})
	settle("unknown", policy.CallEnd{Unreached: true})
	if _, err := s.Consume(t.Context(), use("c")); !errors.Is(err, store.ErrExhausted) {
		t.Fatalf("a call that ended gave its use back: %v", err)
	}
	for range 2 {
		settle("a", policy.CallEnd{Unreached: true})
	}
	if got, err := s.Consume(t.Context(), use("c")); err != nil || got.Used != 2 {
		t.Fatalf("after one was given back: %+v, %v", got, err)
	}
	if _, err := s.Consume(t.Context(), use("d")); !errors.Is(err, store.ErrExhausted) {
		t.Errorf("given back twice: %v", err)
	}
	if _, err := s.Consume(t.Context(), use("a")); !errors.Is(err, store.ErrReplayed) {
		t.Errorf("a call that was given back comes again: %v", err)
	}
}

func TestBytesAreCountedAsCallsEndAndDenyTheNext(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	_, use := limited(t, s, task, 0)
	limit := func(id string) store.Use {
		u := use(id)
		u.Links[0].Limits.Bytes = 100
		return u
	}
	for n, want := range []int64{0, 60, 120} {
		got, err := s.Consume(t.Context(), limit(fmt.Sprint(n)))
		if n < 2 && (err != nil || got.Bytes != want) {
			t.Fatalf("call %d: %+v, %v", n, got, err)
		}
		if n == 2 && !errors.Is(err, store.ErrExhausted) {
			t.Errorf("past the limit: %+v, %v", got, err)
		}
		for range 2 { // told twice, counted once
			if err := s.Settle(t.Context(), limit(fmt.Sprint(n)), policy.CallEnd{Bytes: 60}); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestARateIsABucketThatFillsEvenly(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	s, task := opened(t, storetest.WithWall(func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }))
	_, use := limited(t, s, task, 0)
	limit := func(id string) store.Use {
		u := use(id)
		u.Links[0].Limits.Rate = policy.Rate{Calls: 2, Per: 4 * time.Minute}
		return u
	}
	for n := range 2 {
		if _, err := s.Consume(t.Context(), limit(fmt.Sprint(n))); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Consume(t.Context(), limit("third"))
	var late *store.RateError
	if !errors.As(err, &late) || late.After <= time.Minute || late.After > 2*time.Minute {
		t.Fatalf("the third at once: %v", err)
	}
	ahead.Store(int64(late.After))
	if got, err := s.Consume(t.Context(), limit("third")); err != nil || got.Used != 3 {
		t.Errorf("after as long as it was told to wait: %+v, %v; what was refused must not count", got, err)
	}
}

func TestACallWithANameIsMadeOnceInItsTask(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g, use := limited(t, s, task, 0)
	named := func(id, call string) store.Use {
		u := use(id)
		u.Call = call
		return u
	}
	for range 2 { // the same Check
		if _, err := s.Consume(t.Context(), named("c1", "pay-7")); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Consume(t.Context(), named("c2", "pay-7")); !errors.Is(err, store.ErrReplayed) {
		t.Errorf("again: %v", err)
	}
	if err := s.Settle(t.Context(), named("c1", "pay-7"), policy.CallEnd{Unreached: true}); err != nil {
		t.Fatal(err)
	}
	other := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	again := useOf(other, "c3")
	again.Call = "pay-7"
	if _, err := s.Consume(t.Context(), again); !errors.Is(err, store.ErrReplayed) {
		t.Errorf("under another grant of the task: %v", err)
	}
	two := storetest.Task(t, s)
	elsewhere := useOf(storetest.Grant(t, s, two, storetest.ReadTicket, "OPS-1"), "c4")
	elsewhere.Call = "pay-7"
	if _, err := s.Consume(t.Context(), elsewhere); err != nil {
		t.Errorf("in another task: %v", err)
	}
	if h := held(s, g); h.Use.Used != 0 {
		t.Error("a grant without limits counts its uses")
	}
}

func TestWhatIsNotActiveIsNotUsed(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *store.Store, policy.Grant){
		"the grant ended": func(t *testing.T, s *store.Store, g policy.Grant) {
			_, _, err := s.ChangeGrant(t.Context(), g.Task, g.ID, endGrant(s, policy.EndRevoked))
			fatal(t, err)
		},
		"its task ended": func(t *testing.T, s *store.Store, g policy.Grant) {
			_, _, err := s.ChangeTask(t.Context(), g.Task, end(s, policy.EndCompleted))
			fatal(t, err)
		},
		"its capability was revoked": func(t *testing.T, s *store.Store, g policy.Grant) {
			_, err := s.RaiseFloor(t.Context(), policy.Scope{Kind: policy.ScopeCapability, Name: g.Capability})
			fatal(t, err)
		},
		"its task was dropped": func(t *testing.T, s *store.Store, g policy.Grant) {
			_, _, err := s.ChangeTask(t.Context(), g.Task, end(s, policy.EndCompleted))
			fatal(t, err)
			fatal(t, s.DropTask(t.Context(), g.Task))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, task := opened(t)
			g, use := limited(t, s, task, 2)
			if _, err := s.Consume(t.Context(), use("before")); err != nil {
				t.Fatal(err)
			}
			end(t, s, g)
			_, err := s.Consume(t.Context(), use("after"))
			if !errors.Is(err, store.ErrConflict) && !errors.Is(err, store.ErrFloor) && !errors.Is(err, store.ErrNotFound) {
				t.Errorf("got %v", err)
			}
			// Nor does the end of a call bring back what was dropped.
			fatal(t, s.Settle(t.Context(), use("before"), policy.CallEnd{Unreached: true}))
		})
	}
}

func fatal(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A use of a grant is one of everything that it descends from, or of nothing.
func TestAUseIsOfTheWholeChain(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	root, _ := limited(t, s, task, 2)
	child, _ := limited(t, s, storetest.Task(t, s), 5)
	chain := func(id string) store.Use {
		u := useOf(child, id)
		u.Links = append([]store.UseLink{{Task: root.Task, Grant: root.ID}}, u.Links...)
		return u
	}
	if _, err := s.Consume(t.Context(), useOf(root, "own")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Consume(t.Context(), chain("a")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Consume(t.Context(), chain("b")); !errors.Is(err, store.ErrExhausted) {
		t.Errorf("the root is exhausted: %v", err)
	}
	fatal(t, s.Settle(t.Context(), chain("a"), policy.CallEnd{Unreached: true}))
	if got, err := s.Consume(t.Context(), chain("c")); err != nil || got.Used != 1 {
		t.Errorf("given back to both: %+v, %v", got, err)
	}
	_, _, err := s.ChangeGrant(t.Context(), root.Task, root.ID, endGrant(s, policy.EndRevoked))
	fatal(t, err)
	if _, err := s.Consume(t.Context(), chain("d")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("the root has ended: %v", err)
	}
}

func TestDropTaskForgetsUsesAndCalls(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	_, use := limited(t, s, task, 2)
	u := use("a")
	u.Call = "once"
	if _, err := s.Consume(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.ChangeTask(t.Context(), task.ID, end(s, policy.EndCompleted))
	fatal(t, err)
	fatal(t, s.DropTask(t.Context(), task.ID))
	if n := s.KeysOf(t, task.ID); n != 0 {
		t.Errorf("%d keys of the task are left", n)
	}
}

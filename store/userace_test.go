package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	"pgregory.net/rapid"
)

// Promise 3: however many ask at once, on however many replicas, and each of
// them twice.
func TestUsesAreExactUnderRaces(t *testing.T) {
	t.Parallel()
	const uses, calls = 10, 40
	stores := storetest.Cluster(t, 3)
	storetest.Publish(t, stores[0], storetest.Set())
	task := storetest.Task(t, stores[0])
	_, use := limited(t, stores[0], task, uses)
	allowed := make([]atomic.Int32, calls)
	var wg sync.WaitGroup
	for n := range 2 * calls {
		wg.Go(func() {
			_, err := stores[n%3].Consume(t.Context(), use(fmt.Sprint(n%calls)))
			switch {
			case err == nil:
				allowed[n%calls].Add(1)
			case !errors.Is(err, store.ErrExhausted):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	total := 0
	for n := range allowed {
		switch allowed[n].Load() {
		case 0:
		case 1, 2: // both may be told yes, of one call
			total++
		}
	}
	if total != uses {
		t.Errorf("%d calls were allowed, want %d", total, uses)
	}
}

// useModel counts by the plainest means what a grant's uses must come to.
type useModel struct {
	mu      sync.Mutex
	limit   int64
	allowed map[string]bool // told yes
	unknown map[string]bool // told neither
	back    map[string]bool // given back, and known to be
	maybe   map[string]bool // given back, perhaps
}

func (m *useModel) note(in map[string]bool, id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	in[id] = true
}

// Random consumers on three replicas whose transactions get lost, come late or
// come into effect unseen: no more is allowed than there is, and what the store
// holds in the end is what was allowed, give or take what nobody could know.
func TestUsesAreExactWhenAnswersGetLost(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, storetest.Dir(t))
	calm := openFaulty(t, newFaulty(etcd.Client()), "calm", storetest.Staleness)
	storetest.Publish(t, calm, storetest.Set())
	task := storetest.Task(t, calm)
	var stores []*store.Store
	var losses []*lossy
	for n := range 3 {
		l, client := newLossy(etcd.Client(), uint64(n))
		l.calm() // until it is open
		s, err := store.Open(t.Context(), store.Config{Client: client, Replica: fmt.Sprint("lossy-", n), Staleness: storetest.Staleness})
		fatal(t, err)
		t.Cleanup(func() { _ = s.Close() })
		stores, losses = append(stores, s), append(losses, l)
	}
	rapid.Check(t, func(rt *rapid.T) {
		m := &useModel{
			limit:   rapid.Int64Range(1, 6).Draw(rt, "uses"),
			allowed: map[string]bool{}, unknown: map[string]bool{}, back: map[string]bool{}, maybe: map[string]bool{},
		}
		_, use := limited(t, calm, task, m.limit)
		steps := rapid.SliceOfN(rapid.Custom(drawUse), 1, 14).Draw(rt, "steps")
		for _, l := range losses {
			l.storm(rapid.Uint64().Draw(rt, "losses"))
		}
		var wg sync.WaitGroup
		for _, step := range steps {
			wg.Go(func() { step.run(t.Context(), stores[step.replica], m, use) })
		}
		wg.Wait()
		for _, l := range losses {
			l.calm()
			l.release()
		}
		m.compare(t, rt, calm, use)
	})
}

// useStep is one thing that happens while others do.
type useStep struct {
	replica int
	id      string
	settle  bool
	end     policy.CallEnd
}

func drawUse(rt *rapid.T) useStep {
	return useStep{
		replica: rapid.IntRange(0, 2).Draw(rt, "replica"),
		id:      fmt.Sprint("call-", rapid.IntRange(0, 8).Draw(rt, "call")),
		settle:  rapid.IntRange(0, 3).Draw(rt, "settle") == 0,
		end:     policy.CallEnd{Unreached: rapid.Bool().Draw(rt, "unreached")},
	}
}

func (x useStep) run(ctx context.Context, s *store.Store, m *useModel, use func(string) store.Use) {
	if x.settle {
		if x.end.Unreached {
			m.note(m.maybe, x.id)
			if s.Settle(ctx, use(x.id), x.end) == nil {
				m.note(m.back, x.id)
			}
		}
		return
	}
	_, err := s.Consume(ctx, use(x.id))
	switch {
	case err == nil:
		m.note(m.allowed, x.id)
	case errors.Is(err, errLost):
		m.note(m.unknown, x.id)
	}
}

func (m *useModel) compare(t *testing.T, rt *rapid.T, s *store.Store, use func(string) store.Use) {
	least := int64(0)
	for id := range m.allowed {
		if !m.maybe[id] {
			least++
		}
	}
	if least > m.limit {
		rt.Fatalf("%d of %d uses were allowed", least, m.limit)
	}
	most := min(m.limit, int64(len(union(m.allowed, m.unknown))))
	used := usedNow(t, rt, s, use)
	if used < least || used > most {
		rt.Fatalf("the store counts %d uses, want %d to %d", used, least, most)
	}
	// What is left can be used, and no more than that.
	for n := used; ; n++ {
		_, err := s.Consume(t.Context(), use(fmt.Sprint("rest-", n)))
		if n < m.limit && err != nil || n == m.limit && !errors.Is(err, store.ErrExhausted) {
			rt.Fatalf("use %d of %d: %v", n+1, m.limit, err)
		}
		if n == m.limit {
			return
		}
	}
}

// usedNow reads the count through a use and its return.
func usedNow(t *testing.T, rt *rapid.T, s *store.Store, use func(string) store.Use) int64 {
	got, err := s.Consume(t.Context(), use("probe"))
	if errors.Is(err, store.ErrExhausted) {
		return got.Used
	}
	if err == nil {
		err = s.Settle(t.Context(), use("probe"), policy.CallEnd{Unreached: true})
	}
	if err != nil {
		rt.Fatal(err)
	}
	return got.Used - 1
}

func union(a, b map[string]bool) map[string]bool {
	out := map[string]bool{}
	for id := range a {
		out[id] = true
	}
	for id := range b {
		out[id] = true
	}
	return out
}

// What happens between the look and the transaction is noticed by the
// transaction.
func TestAUseIsOfWhatIsThereWhenItIsSpent(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, storetest.Dir(t))
	calm := openFaulty(t, newFaulty(etcd.Client()), "calm", storetest.Staleness)
	storetest.Publish(t, calm, storetest.Set())
	for name, test := range map[string]struct {
		between func(*testing.T, policy.Grant, func(string) store.Use) error
		want    error
	}{
		"the grant ends": {func(t *testing.T, g policy.Grant, _ func(string) store.Use) error {
			_, _, err := calm.ChangeGrant(t.Context(), g.Task, g.ID, endGrant(calm, policy.EndRevoked))
			return err
		}, store.ErrConflict},
		"the task ends": {func(t *testing.T, g policy.Grant, _ func(string) store.Use) error {
			_, _, err := calm.ChangeTask(t.Context(), g.Task, end(calm, policy.EndFailed))
			return err
		}, store.ErrConflict},
		"the last use is spent": {func(t *testing.T, _ policy.Grant, use func(string) store.Use) error {
			u := use("other")
			u.Call = "another"
			_, err := calm.Consume(t.Context(), u)
			return err
		}, store.ErrExhausted},
		"the call is made": {func(t *testing.T, g policy.Grant, _ func(string) store.Use) error {
			task := policy.Task{ID: g.Task, Agent: g.Agent, Instance: g.Instance}
			other := useOf(storetest.Grant(t, calm, task, storetest.EditTicket, "OPS-1"), "other")
			other.Call = "once"
			_, err := calm.Consume(t.Context(), other)
			return err
		}, store.ErrReplayed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, client := newLossy(etcd.Client(), 0)
			l.calm()
			s, err := store.Open(t.Context(), store.Config{Client: client, Replica: name, Staleness: storetest.Staleness})
			fatal(t, err)
			t.Cleanup(func() { _ = s.Close() })
			g, use := limited(t, calm, storetest.Task(t, calm), 1)
			l.interpose(func() { fatal(t, test.between(t, g, use)) })
			u := use("mine")
			u.Call = "once"
			if _, err := s.Consume(t.Context(), u); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

// Two ends that are taken in at once both count.
func TestTheEndsOfTwoCallsAreBothTakenIn(t *testing.T) {
	t.Parallel()
	etcd := startEtcd(t, storetest.Dir(t))
	l, client := newLossy(etcd.Client(), 0)
	l.calm()
	s, err := store.Open(t.Context(), store.Config{Client: client, Staleness: storetest.Staleness})
	fatal(t, err)
	t.Cleanup(func() { _ = s.Close() })
	storetest.Publish(t, s, storetest.Set())
	_, use := limited(t, s, storetest.Task(t, s), 2)
	for _, id := range []string{"a", "b"} {
		_, err := s.Consume(t.Context(), use(id))
		fatal(t, err)
	}
	l.interpose(func() { fatal(t, s.Settle(t.Context(), use("b"), policy.CallEnd{Unreached: true})) })
	fatal(t, s.Settle(t.Context(), use("a"), policy.CallEnd{Unreached: true}))
	if got, err := s.Consume(t.Context(), use("c")); err != nil || got.Used != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

package attack

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

// grantUses gives the task the item for so many calls.
func (s *scene) grantUses(t *testing.T, capability string, uses int64) client.Grant {
	t.Helper()
	g, err := s.task.API.RequestGrant(stack.Context(t), client.GrantRequest{
		Task: s.task.ID, Capability: capability, Params: map[string]string{"item": "OPS-42"},
		TTL: 5 * time.Minute, MaxUses: uses, Wait: 30 * time.Second,
	})
	if err != nil || !g.Ready {
		t.Fatalf("grant of %s: %+v, %v", capability, g, err)
	}
	return g
}

// clients call on connections of their own, over HTTP/1.1 and HTTP/2 by turns.
func (s *scene) clients(t *testing.T, n int) []*http.Client {
	t.Helper()
	list := make([]*http.Client, n)
	for i := range list {
		list[i] = s.task.HTTP(t)
		list[i].Transport.(*http.Transport).ForceAttemptHTTP2 = i%2 == 0
	}
	return list
}

// storm has every client make calls at once and counts the answers by what
// they say: "200", or the reason of a denial.
func storm(t *testing.T, clients []*http.Client, each int, target string, change func(*http.Request)) map[string]int {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	said := map[string]int{}
	for _, c := range clients {
		for range each {
			wg.Go(func() {
				r := stack.Get(t, c, target, change)
				words := r.Denial().Reason
				if r.Status == http.StatusOK {
					words = "200"
				}
				mu.Lock()
				defer mu.Unlock()
				said[words]++
			})
		}
	}
	wg.Wait()
	return said
}

func unchanged(*http.Request) {}

// late is what Envoy says of a check that ran out of its time, as it may on a
// busy machine. Its use may be spent: no call comes of it.
const late = "internal"

// used checks that as many calls arrived as there are uses, less at most those
// that were denied because their check was late; and never one more.
func (s *scene) used(t *testing.T, said map[string]int, uses int) {
	t.Helper()
	arrived := len(s.mirror.Seen())
	if arrived > uses || arrived+said[late] < uses || said["200"] != arrived {
		t.Errorf("answered %v, and %d arrived; want %d", said, arrived, uses)
	}
}

// More calls than there are uses, all at once, and all again. The defence: each
// use is one transaction. Exactly as many arrive as there are uses.
func TestRacingTheLastUse(t *testing.T) {
	t.Parallel()
	const uses = 7
	for says, change := range map[string]func(*http.Request){
		"at once": unchanged,
		// Were Envoy's number for a call the agent's to choose, all calls would be one.
		"under one x-request-id": func(r *http.Request) {
			r.Header.Set("X-Request-Id", "e905d206-39b6-4449-a239-dc1bb73e8adf")
		},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			s.grantUses(t, "read-item", uses)
			clients := s.clients(t, 4)
			said := storm(t, clients, 5, itemAt(s.mirror), change)
			for reason, n := range storm(t, clients, 2, itemAt(s.mirror), change) { // retries
				said[reason] += n
			}
			s.used(t, said, uses)
			if said["uses_exhausted"]+said[late] < 28-uses {
				t.Errorf("answered %v", said)
			}
		})
	}
}

// A spent grant leaves the call to another, which is spent as exactly.
func TestRacingTheLastUsesOfTwoGrants(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grantUses(t, "read-item", 3)
	s.grantUses(t, "read-item", 4)
	said := storm(t, s.clients(t, 4), 4, itemAt(s.mirror), unchanged)
	s.used(t, said, 7)
}

// The same call, by its name, at once and again later and under another grant.
// The defence: its name is written down with its use.
func TestReplayingACall(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	once := func(r *http.Request) { r.Header.Set("Exeat-Call", "pay-7") }
	clients := s.clients(t, 4)
	if said := storm(t, clients, 3, itemAt(s.mirror), once); said["200"] > 1 || said["200"]+said["replayed"]+said[late] != 12 {
		t.Errorf("answered %v", said)
	}
	s.grantUses(t, "read-item", 5)
	if said := storm(t, clients, 1, itemAt(s.mirror), once); said["replayed"]+said[late] != 4 {
		t.Errorf("under another grant: %v", said)
	}
	if n := len(s.mirror.Seen()); n > 1 {
		t.Errorf("%d arrived", n)
	}
	for _, seen := range s.mirror.Seen() {
		if seen.Header.Get("Exeat-Call") != "" {
			t.Error("the call's name went on to the upstream")
		}
	}
	// Two names, and one that is none.
	for _, names := range [][]string{{"a", "b"}, {""}, {"a b"}} {
		r := stack.Get(t, clients[0], itemAt(s.mirror), func(r *http.Request) { r.Header["Exeat-Call"] = names })
		refused{http.StatusBadRequest, "malformed_call"}.check(t, r)
	}
}

// exeatd is killed again and again while calls race for the last use, between
// its spending and the answer too. The defence: what is spent stays spent.
func TestRacingTheLastUseWhileExeatdIsKilled(t *testing.T) {
	t.Parallel()
	const uses = 25
	s := newScene(t)
	s.grantUses(t, "read-item", uses)
	clients := s.clients(t, 4)
	stop := make(chan struct{})
	var calling sync.WaitGroup
	var exhausted atomic.Bool
	for _, c := range clients {
		calling.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if stack.Get(t, c, itemAt(s.mirror)).Denial().Reason == "uses_exhausted" {
					exhausted.Store(true)
				}
			}
		})
	}
	for round := range 3 {
		s.mirror.Await(t, "some calls", func(seen []stack.Arrival) bool { return len(seen) > round*4 })
		if err := s.KillExeatd(); err != nil {
			t.Fatal(err)
		}
		if err := s.StartExeatd(stack.Context(t)); err != nil {
			t.Fatal(err)
		}
	}
	stack.Await(t, "the last use", exhausted.Load)
	close(stop)
	calling.Wait()
	// A kill may lose the uses that were on their way: one for each client.
	if n := len(s.mirror.Seen()); n > uses || n < uses-3*len(clients) {
		t.Errorf("%d calls arrived of %d", n, uses)
	}
}

// Where no connection comes about, the use is given back; nothing arrived.
func TestACallThatReachesNobodyGivesItsUseBack(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	g := s.grantUses(t, "read-dead", 0)
	for n := range 3 {
		stack.Await(t, "the use's return", func() bool {
			now, err := s.task.API.GetGrant(stack.Context(t), g.ID, 0)
			return err == nil && now.Used == 0
		})
		r := stack.Get(t, s.task.HTTP(t), "https://dead.example.org"+granted)
		if r.Status != http.StatusServiceUnavailable || r.Denial().Reason != "" {
			t.Errorf("call %d: %d %s", n, r.Status, r.Body)
		}
	}
}

// Faster than the grant allows.
func TestOutrunningTheRate(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "slow-item")
	clients := s.clients(t, 4)
	if said := storm(t, clients, 3, itemAt(s.mirror), unchanged); said["200"] > 3 || said["200"]+said[late] < 3 || said["200"]+said["rate_limited"]+said[late] != 12 {
		t.Errorf("answered %v", said)
	}
	r := stack.Get(t, clients[0], itemAt(s.mirror))
	refused{http.StatusTooManyRequests, "rate_limited"}.check(t, r)
	if after := r.Header.Get("Retry-After"); len(after) < 3 || len(s.mirror.Seen()) > 3 {
		t.Errorf("retry after %q; %d arrived", after, len(s.mirror.Seen()))
	}
}

// More bytes than the grant allows: counted as calls end, and the next is denied.
func TestMoreBytesThanTheGrantAllows(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "small-item")
	calls := 0
	stack.Await(t, "the denial of one more call", func() bool {
		calls++
		r := stack.Do(t, s.task.HTTP(t), http.MethodPost, itemAt(s.mirror), func(r *http.Request) {
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 12_000))), 12_000
		})
		if r.Status != http.StatusOK {
			refused{http.StatusForbidden, "uses_exhausted"}.check(t, r)
		}
		return r.Status != http.StatusOK
	})
	// Two take it past its limit; a few more may go before that is counted.
	if n := len(s.mirror.Seen()); n < 2 || n != calls-1 || n > 20 {
		t.Errorf("%d arrived, of %d calls", n, calls)
	}
}

package grant_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/embedded"
)

const catalogJSON = `{
"destinations": [{"metadata": {"name": "tickets"}, "spec": {"hosts": ["tickets.example.org"], "clientEnv": {"TICKETS_API_KEY": "exeat"}}}],
"providers": [{"metadata": {"name": "jwt"}, "spec": {"jwt": {"audience": "https://tickets.example.org"}}}],
"capabilities": [
  {"metadata": {"name": "read-ticket"}, "spec": {
    "description": "Read one ticket.", "destination": "tickets",
    "params": {"project": {"pattern": "[A-Z]{2,5}"}, "ticket": {"pattern": "${project}-[0-9]+", "description": "Its key."}},
    "calls": [{"method": "GET", "path": "/v1/tickets/${ticket}"}],
    "credential": {"provider": "jwt", "scope": {"ticket": "${ticket}"}},
    "limits": {"ttl": "5m", "maxTTL": "15m"}}},
  {"metadata": {"name": "browse"}, "spec": {"destination": "tickets", "calls": [{"method": "GET", "path": "/v1/tickets"}],
    "limits": {"ttl": "5m", "maxTTL": "15m"}}},
  {"metadata": {"name": "other"}, "spec": {"destination": "tickets", "calls": [{"method": "GET", "path": "/v1/other"}]}}
],
"agents": [
  {"metadata": {"name": "triage"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/triage", "sidecarID": "spiffe://example.org/sidecar/triage/{instance}",
    "owner": {"groups": ["support"], "contact": "support@example.org"},
    "capabilities": [{"name": "read-ticket", "params": {"project": ["OPS", "SUP"]}}, {"name": "browse"}]}},
  {"metadata": {"name": "writer"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/writer", "sidecarID": "spiffe://example.org/sidecar/writer",
    "owner": {"groups": ["docs"], "contact": "docs@example.org"}, "capabilities": [{"name": "browse"}]}}
]}`

const (
	triage1 = policy.Instance("spiffe://example.org/sidecar/triage/1")
	triage2 = policy.Instance("spiffe://example.org/sidecar/triage/2")
	writer  = policy.Instance("spiffe://example.org/sidecar/writer")
)

// ticket is what a request for read-ticket gives.
var ticket = map[string]string{"project": "OPS", "ticket": "OPS-42"}

// world is a service over a real store, with stand-ins for the parts that
// answer it: an authz replica, a minter and sidecars.
type world struct {
	*grant.Service
	t     testing.TB
	ctx   context.Context
	dir   string
	store *store.Store
	audit *audit.Log
	mint  *minter
	cars  *sidecars
	leave func()
	stop  func()

	closeAudit func()
	retention  time.Duration
	quota      int64 // of etcd, in bytes; its default when 0
	// etcd is what the store runs on, so that a test can write to it; nil: one
	// that nobody else reaches.
	etcd  *clientv3.Client
	ahead atomic.Int64 // how far the wall clock is set forward, in ns
}

func (w *world) wall() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

func newWorld(t testing.TB) *world { return newWorldWith(t, 0) }

func newWorldWith(t testing.TB, retention time.Duration) *world {
	return newWorldOf(t, func(w *world) { w.retention = retention })
}

func newWorldOf(t testing.TB, set func(*world)) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), ctx: t.Context()}
	set(w)
	w.open()
	w.publish(catalogJSON)
	t.Cleanup(func() { w.stop() })
	return w
}

// open starts everything on what the folder holds.
func (w *world) open() {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cfg := store.Config{Dir: filepath.Join(w.dir, "store"), Wall: w.wall, QuotaBytes: w.quota}
	if w.etcd != nil {
		cfg.Dir, cfg.Client, cfg.Replica = "", w.etcd, "replica-0"
	}
	st, err := store.Open(ctx, cfg)
	w.must(err)
	log, err := audit.Open(audit.Config{Dir: filepath.Join(w.dir, "audit"), Clock: st.Now})
	w.must(err)
	w.store, w.audit = st, log
	w.mint = &minter{store: st, failed: map[policy.GrantID]string{}, wake: make(chan struct{}, 1)}
	w.cars = &sidecars{store: st, wake: make(chan struct{}, 1)}
	w.Service, err = grant.New(grant.Config{Store: st, Audit: log, Failures: w.mint, Retention: w.retention})
	w.must(err)
	w.closeAudit = sync.OnceFunc(func() {
		if err := log.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.join()
	var wg sync.WaitGroup
	wg.Go(func() { w.mint.run(ctx) })
	wg.Go(func() { w.cars.run(ctx) })
	wg.Go(func() { _ = w.Run(ctx) })
	w.stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
		if w.leave != nil {
			w.leave()
		}
		w.closeAudit()
		if err := st.Close(); err != nil {
			w.t.Error(err)
		}
	})
}

func (w *world) join() {
	w.t.Helper()
	leave, err := w.store.JoinReplica(context.Background(), "authz")
	w.must(err)
	w.leave = leave
}

func (w *world) reopen() {
	w.t.Helper()
	w.stop()
	w.open()
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// publish puts a catalog in force and waits until it is.
func (w *world) publish(text string) {
	w.t.Helper()
	set := new(v1alpha1.Set)
	w.must(json.Unmarshal([]byte(text), set))
	source, err := policy.EncodeSet(set)
	w.must(err)
	rev, err := w.store.PublishCatalog(w.ctx, source)
	w.must(err)
	w.seen(rev)
}

// seen waits until the index shows a revision.
func (w *world) seen(rev int64) {
	w.t.Helper()
	sub := w.store.Index().Subscribe()
	defer sub.Close()
	for w.store.Index().Revision() < rev {
		_, err := sub.Next(w.ctx)
		w.must(err)
	}
}

// shared makes the store run on an etcd that the test can write to as well.
func shared(w *world) {
	w.t.Helper()
	etcd, err := embedded.Start(w.t.Context(), embedded.Config{Dir: filepath.Join(w.t.TempDir(), "etcd"), Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	w.t.Cleanup(etcd.Close)
	w.etcd = etcd.Client()
}

// breakCatalog puts a catalog in force that cannot be read, which is none.
func (w *world) breakCatalog() {
	w.t.Helper()
	r, err := w.etcd.Put(w.ctx, "/exeat/v1/a/catalog", "no catalog")
	w.must(err)
	w.seen(r.Header.Revision)
	if w.store.Index().Catalog() != nil {
		w.t.Fatal("a catalog is in force")
	}
}

// as is the caller that a sidecar makes for its agent.
func (w *world) as(i policy.Instance, proof policy.Secret) grant.Caller {
	w.t.Helper()
	a, ok := w.store.Index().Catalog().AgentBySidecar(string(i))
	if !ok {
		w.t.Fatalf("no agent for %s", i)
	}
	return grant.Caller{Agent: a, Instance: i, Name: string(i), Proof: proof}
}

var operator = grant.Caller{Operator: true, Name: "local/uid/0"}

// task starts one, and gives it with a caller that acts within it.
func (w *world) task(i policy.Instance, timeout time.Duration) (policy.Task, grant.Caller) {
	w.t.Helper()
	t, err := w.StartTask(w.ctx, w.as(i, policy.Secret{}), grant.TaskRequest{Type: "triage", Timeout: timeout})
	w.must(err)
	return t, w.as(i, t.Credential)
}

// granted asks for a grant that must become ready.
func (w *world) granted(c grant.Caller, t policy.Task, ttl time.Duration) policy.Grant {
	w.t.Helper()
	st, err := w.Request(w.ctx, c, grant.Request{Task: t.ID, Capability: "read-ticket", Params: ticket, TTL: ttl}, long)
	w.must(err)
	if !st.Ready {
		w.t.Fatalf("not ready: waits for %q: %s", st.Waiting, st.Why)
	}
	return st.Grant
}

// until waits for something to hold of a task in the index.
func (w *world) until(id policy.TaskID, cond func(*policy.TaskView) bool) *policy.TaskView {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.ctx, long)
	defer cancel()
	v, err := w.store.Index().AwaitTask(ctx, id, cond)
	if err != nil {
		w.t.Fatalf("task %s never came to it: %+v", id, w.store.Index().Task(id))
	}
	return v
}

// long is for what must happen; nothing waits for it unless it fails.
const long = 20 * time.Second

func find(v *policy.TaskView, id policy.GrantID) *policy.Held {
	if v != nil {
		for _, h := range v.Held {
			if h.Grant.ID == id {
				return h
			}
		}
	}
	return nil
}

// minter stands in for the credential manager: it mints for what is in the
// index, unless it is held or told to fail.
type minter struct {
	store  *store.Store
	mu     sync.Mutex
	held   bool
	fail   string
	failed map[policy.GrantID]string
	wake   chan struct{}
}

func (m *minter) set(fn func()) {
	m.mu.Lock()
	fn()
	m.mu.Unlock()
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *minter) Failure(id policy.GrantID) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.failed[id]
}

func (m *minter) run(ctx context.Context) {
	follow(ctx, m.store.Index(), m.wake, func() {
		m.store.Index().EachTask(func(v *policy.TaskView) bool {
			for _, h := range v.Held {
				m.one(ctx, v, h)
			}
			return true
		})
	})
}

func (m *minter) one(ctx context.Context, v *policy.TaskView, h *policy.Held) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.held || h.Credential != nil || h.Grant.State != policy.Active || h.Resolved == nil || h.Resolved.Provider == nil {
		return
	}
	if m.fail != "" {
		m.failed[h.Grant.ID] = m.fail
		return
	}
	_, _ = m.store.PutCredential(ctx, v.Task.ID, policy.SealedCredential{Grant: h.Grant.ID, Sealed: []byte("sealed")})
}

// sidecars stands in for xDS: every connected sidecar applies at once what the
// index shows, unless it is held.
type sidecars struct {
	store *store.Store
	mu    sync.Mutex
	on    map[policy.Instance]bool // connected; true: held
	wake  chan struct{}
}

// connect adds a sidecar, or changes whether it is held.
func (s *sidecars) connect(i policy.Instance, held bool) {
	s.mu.Lock()
	if s.on == nil {
		s.on = map[policy.Instance]bool{}
	}
	_, known := s.on[i]
	s.on[i] = held
	s.mu.Unlock()
	if !known && held {
		s.store.AckInstance(store.InstanceAck{Instance: i})
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *sidecars) run(ctx context.Context) {
	follow(ctx, s.store.Index(), s.wake, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		rev := s.store.Index().Revision()
		for i, held := range s.on {
			if !held {
				s.store.AckInstance(store.InstanceAck{Instance: i, Ready: rev, Cut: rev, Version: "test"})
			}
		}
	})
}

// follow runs fn on every change of the index and whenever it is woken.
func follow(ctx context.Context, x *store.Index, wake <-chan struct{}, fn func()) {
	sub := x.Subscribe()
	defer sub.Close()
	changed := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		defer close(changed)
		for {
			if _, err := sub.Next(ctx); err != nil {
				return
			}
			select {
			case changed <- struct{}{}:
			case <-ctx.Done():
				return
			}
		}
	})
	for {
		select {
		case _, ok := <-changed:
			if !ok {
				return
			}
		case <-wake:
		case <-ctx.Done():
			return
		}
		fn()
	}
}

// reject makes a sidecar say that it refused its configuration.
func (w *world) reject(i policy.Instance, words string) {
	w.store.AckInstance(store.InstanceAck{Instance: i, Rejected: words})
}

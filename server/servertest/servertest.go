// Package servertest runs the HTTP API in process for tests: over real TLS with
// identities of an embedded authority and over a real Unix socket, on a real
// store and audit log. Only the sidecar's xDS is a stand-in: it applies
// everything at once.
package servertest

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/identity/oidc/oidctest"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/store"
)

// The catalog has three agents: triage, of which each sidecar has an identity of
// its own, closer, whose close-ticket two leads must approve, and writer.
const catalog = `{
"destinations": [{"metadata": {"name": "tickets"}, "spec": {"hosts": ["tickets.example.org"], "clientEnv": {"TICKETS_API_KEY": "exeat"}}}],
"capabilities": [
  {"metadata": {"name": "read-ticket"}, "spec": {"destination": "tickets", "params": {"ticket": {"pattern": "[A-Z]+-[0-9]+"}},
    "calls": [{"method": "GET", "path": "/v1/tickets/${ticket}"}], "limits": {"ttl": "5m", "maxTTL": "15m"}}},
  {"metadata": {"name": "close-ticket"}, "spec": {"destination": "tickets", "risk": "high", "params": {"ticket": {"pattern": "[A-Z]+-[0-9]+"}},
    "calls": [{"method": "POST", "path": "/v1/tickets/${ticket}/transitions", "body": "any"}], "limits": {"ttl": "5m"},
    "approval": {"count": 2, "groups": ["leads"], "stepUp": {"maxAge": "5m"}}}},
  {"metadata": {"name": "label-ticket"}, "spec": {"destination": "tickets", "calls": [{"method": "PUT", "path": "/v1/labels"}],
    "approval": {"groups": ["leads"]}}},
  {"metadata": {"name": "other"}, "spec": {"destination": "tickets", "calls": [{"method": "GET", "path": "/v1/other"}]}}
],
"access": [{"metadata": {"name": "people"}, "spec": {"issuer": {"url": "ISSUER", "clientID": "exeat"}, "rules": [
  {"groups": ["leads"], "verbs": ["view", "approve"], "owners": ["support"]},
  {"groups": ["sre"], "verbs": ["view", "revoke", "suspend", "resume", "audit"]}]}}],
"agents": [
  {"metadata": {"name": "triage"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/triage", "sidecarID": "spiffe://example.org/sidecar/triage/{instance}",
    "owner": {"groups": ["support"], "contact": "support@example.org"}, "capabilities": [{"name": "read-ticket"}]}},
  {"metadata": {"name": "closer"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/closer", "sidecarID": "spiffe://example.org/sidecar/closer",
    "owner": {"groups": ["support"], "contact": "support@example.org"},
    "capabilities": [{"name": "read-ticket"}, {"name": "close-ticket"}, {"name": "label-ticket"}]}},
  {"metadata": {"name": "writer"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/writer", "sidecarID": "spiffe://example.org/sidecar/writer",
    "owner": {"groups": ["docs"], "contact": "docs@example.org"}, "capabilities": [{"name": "other"}]}}
]}`

// Domain is the trust domain; the others are paths of sidecars' SPIFFE IDs. Only
// the first is connected at the start.
const (
	Domain  = "example.org"
	Triage1 = "/sidecar/triage/1"
	Triage2 = "/sidecar/triage/2"
	Writer  = "/sidecar/writer"
	Closer  = "/sidecar/closer"
)

// API is a running API.
type API struct {
	T      testing.TB
	URL    string // https://127.0.0.1:port
	Socket string // of the operator's API
	// Enrolled gets the PID of each process that enrolls.
	Enrolled chan int
	// Issuer vouches for people.
	Issuer *oidctest.Issuer
	// Terminal is what an operator sees.
	Terminal  *Logged
	Authority *identity.Authority
	Store     *store.Store
	Audit     *audit.Log
	Registry  *prometheus.Registry
	Logged    *Logged
	closer    atomic.Bool
}

// ConnectCloser lets the closer's sidecar be connected from the next change on.
func (a *API) ConnectCloser() { a.closer.Store(true) }

// Start runs the API until the test ends.
func Start(t testing.TB) *API {
	t.Helper()
	dir := t.TempDir()
	a := &API{T: t, Registry: prometheus.NewRegistry(), Logged: &Logged{}, Terminal: &Logged{}, Issuer: oidctest.Start(t), Enrolled: make(chan int, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	a.open(ctx, dir)
	t.Cleanup(func() {
		cancel()
		running.Wait()
		a.Must(a.Audit.Close())
		a.Must(a.Store.Close())
	})
	grants, err := grant.New(grant.Config{Store: a.Store, Audit: a.Audit, Registry: a.Registry})
	a.Must(err)
	api, err := server.New(server.Config{
		Grants: grants, Store: a.Store, Issuer: issuer{}, Enroller: enroller{a}, TrustDomain: Domain, Registry: a.Registry, Terminal: a.Terminal,
		Log: slog.New(slog.NewJSONHandler(a.Logged, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	a.Must(err)
	running.Go(func() { a.sidecar(ctx) })
	a.serve(ctx, api, &running)
	return a
}

// open makes what the API stands on.
func (a *API) open(ctx context.Context, dir string) {
	a.T.Helper()
	var err error
	a.Store, err = store.Open(ctx, store.Config{Dir: filepath.Join(dir, "store")})
	a.Must(err)
	a.Audit, err = audit.Open(audit.Config{Dir: filepath.Join(dir, "audit")})
	a.Must(err)
	a.Authority, err = identity.OpenAuthority(identity.AuthorityConfig{
		Dir: filepath.Join(dir, "identity"), TrustDomain: Domain, Log: slog.New(slog.DiscardHandler),
	})
	a.Must(err)
	_, err = a.Store.JoinReplica(ctx, "authz")
	a.Must(err)
	a.publish(ctx)
}

func (a *API) publish(ctx context.Context) {
	a.T.Helper()
	set := new(v1alpha1.Set)
	a.Must(json.Unmarshal([]byte(strings.Replace(catalog, "ISSUER", a.Issuer.URL, 1)), set))
	source, err := policy.EncodeSet(set)
	a.Must(err)
	_, err = a.Store.PublishCatalog(ctx, source)
	a.Must(err)
	sub := a.Store.Index().Subscribe()
	defer sub.Close()
	for a.Store.Index().Catalog() == nil {
		_, err := sub.Next(ctx)
		a.Must(err)
	}
}

// serve opens the two doors.
func (a *API) serve(ctx context.Context, api *server.Server, running *sync.WaitGroup) {
	a.T.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	a.Must(err)
	a.URL = "https://" + ln.Addr().String()
	id, err := identity.APIServer(Domain)
	a.Must(err)
	config := identity.ServerTLS(a.Authority.Source(id, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)}), true)
	folder, err := os.MkdirTemp("", "exeat") // a test's own folder is too long for a socket
	a.Must(err)
	a.T.Cleanup(func() { os.RemoveAll(folder) })
	a.Socket = filepath.Join(folder, "s")
	local, err := identity.ListenUnix(a.Socket)
	a.Must(err)
	running.Go(func() { a.ended(api.Serve(ctx, ln, config)) })
	running.Go(func() { a.ended(api.ServeLocal(ctx, local)) })
}

func (a *API) ended(err error) {
	if err != nil {
		a.T.Errorf("the server ended: %v", err)
	}
}

// sidecar stands in for xDS.
func (a *API) sidecar(ctx context.Context) {
	sub := a.Store.Index().Subscribe()
	defer sub.Close()
	for {
		if _, err := sub.Next(ctx); err != nil {
			return
		}
		rev := a.Store.Index().Revision()
		a.Store.AckInstance(store.InstanceAck{Instance: "spiffe://" + Domain + Triage1, Ready: rev, Cut: rev, Version: "1.40"})
		if a.closer.Load() {
			a.Store.AckInstance(store.InstanceAck{Instance: "spiffe://" + Domain + Closer, Ready: rev, Cut: rev, Version: "1.40"})
		}
	}
}

// Must ends the test on an error.
func (a *API) Must(err error) {
	a.T.Helper()
	if err != nil {
		a.T.Fatal(err)
	}
}

type issuer struct{}

func (issuer) JWKS() []byte      { return []byte(`{"keys":[]}`) }
func (issuer) Discovery() []byte { return []byte(`{"issuer":"https://example.org"}`) }

// enroller notes which process asked.
type enroller struct{ *API }

// Enroll implements server.Enroller.
func (e enroller) Enroll(_ context.Context, agent string, pid int) (server.Enrollment, error) {
	e.Enrolled <- pid
	return server.Enrollment{
		Instance: "spiffe://" + Domain + "/sidecar/" + agent + "/new", GRPC: "127.0.0.1:1", API: e.URL,
		TrustDomain: Domain, WorkloadSocket: "/w",
	}, nil
}

// Logged keeps what was logged.
type Logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write takes in a line.
func (l *Logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String gives all of it.
func (l *Logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/store"
)

const catalogJSON = `{
"destinations": [{"metadata": {"name": "tickets"}, "spec": {"hosts": ["tickets.example.org"], "clientEnv": {"TICKETS_API_KEY": "exeat"}}}],
"capabilities": [
  {"metadata": {"name": "read-ticket"}, "spec": {"destination": "tickets", "params": {"ticket": {"pattern": "[A-Z]+-[0-9]+"}},
    "calls": [{"method": "GET", "path": "/v1/tickets/${ticket}"}], "limits": {"ttl": "5m", "maxTTL": "15m"}}},
  {"metadata": {"name": "other"}, "spec": {"destination": "tickets", "calls": [{"method": "GET", "path": "/v1/other"}]}}
],
"agents": [
  {"metadata": {"name": "triage"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/triage", "sidecarID": "spiffe://example.org/sidecar/triage/{instance}",
    "owner": {"groups": ["support"], "contact": "support@example.org"}, "capabilities": [{"name": "read-ticket"}]}},
  {"metadata": {"name": "writer"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/writer", "sidecarID": "spiffe://example.org/sidecar/writer",
    "owner": {"groups": ["docs"], "contact": "docs@example.org"}, "capabilities": [{"name": "other"}]}}
]}`

const (
	domain  = "example.org"
	triage1 = "/sidecar/triage/1"
	triage2 = "/sidecar/triage/2"
	writer  = "/sidecar/writer"
)

// world is the API over real TLS and a real Unix socket, on a real store.
type world struct {
	t         testing.TB
	base      string // of the TLS API
	socket    string
	authority *identity.Authority
	store     *store.Store
	registry  *prometheus.Registry
	log       *logged
	enrolled  chan int
}

func newWorld(t testing.TB) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{t: t, registry: prometheus.NewRegistry(), log: &logged{}, enrolled: make(chan int, 1)}
	// The parts outlive ctx, which only makes them stop; then they close.
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	t.Cleanup(func() { cancel(); running.Wait() })
	var err error
	w.store, err = store.Open(ctx, store.Config{Dir: filepath.Join(dir, "store")})
	w.must(err)
	log, err := audit.Open(audit.Config{Dir: filepath.Join(dir, "audit")})
	w.must(err)
	w.authority, err = identity.OpenAuthority(identity.AuthorityConfig{Dir: filepath.Join(dir, "identity"), TrustDomain: domain, Log: slog.New(slog.DiscardHandler)})
	w.must(err)
	w.publish(catalogJSON)
	leave, err := w.store.JoinReplica(ctx, "authz")
	w.must(err)
	t.Cleanup(func() { cancel(); running.Wait(); leave(); w.must(log.Close()); w.must(w.store.Close()) })

	grants, err := grant.New(grant.Config{Store: w.store, Audit: log})
	w.must(err)
	api, err := server.New(server.Config{
		Grants: grants, Store: w.store, Issuer: issuer{}, Enroller: enroller{w}, TrustDomain: domain,
		Registry: w.registry, Log: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	w.must(err)
	running.Go(func() { w.sidecars(ctx) })
	w.serve(ctx, api, &running)
	return w
}

// serve opens the two doors.
func (w *world) serve(ctx context.Context, api *server.Server, running *sync.WaitGroup) {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	w.base = "https://" + ln.Addr().String()
	id, err := identity.APIServer(domain)
	w.must(err)
	src := w.authority.Source(id, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	folder, err := os.MkdirTemp("", "exeat") // a test's own folder is too long for a socket
	w.must(err)
	w.t.Cleanup(func() { os.RemoveAll(folder) })
	w.socket = filepath.Join(folder, "s")
	local, err := identity.ListenUnix(w.socket)
	w.must(err)
	running.Go(func() {
		if err := api.Serve(ctx, ln, identity.ServerTLS(src, true)); err != nil {
			w.t.Errorf("serve: %v", err)
		}
	})
	running.Go(func() {
		if err := api.ServeLocal(ctx, local); err != nil {
			w.t.Errorf("serve locally: %v", err)
		}
	})
}

// sidecars stands in for xDS: the sidecar of triage applies everything at once.
func (w *world) sidecars(ctx context.Context) {
	sub := w.store.Index().Subscribe()
	defer sub.Close()
	for {
		if _, err := sub.Next(ctx); err != nil {
			return
		}
		rev := w.store.Index().Revision()
		w.store.AckInstance(store.InstanceAck{Instance: policy.Instance("spiffe://" + domain + triage1), Ready: rev, Cut: rev, Version: "1.40"})
	}
}

func (w *world) publish(text string) {
	w.t.Helper()
	set := new(v1alpha1.Set)
	w.must(json.Unmarshal([]byte(text), set))
	source, err := policy.EncodeSet(set)
	w.must(err)
	_, err = w.store.PublishCatalog(w.t.Context(), source)
	w.must(err)
	sub := w.store.Index().Subscribe()
	defer sub.Close()
	for w.store.Index().Catalog() == nil {
		_, err := sub.Next(w.t.Context())
		w.must(err)
	}
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// as gives an HTTP client with the identity of that path.
func (w *world) as(path string) *http.Client {
	w.t.Helper()
	id, err := identity.ParseID("spiffe://" + domain + path)
	w.must(err)
	api, err := identity.APIServer(domain)
	w.must(err)
	return w.client(identity.ClientTLS(w.authority.Source(id, nil, nil), api))
}

// nobody gives an HTTP client without a certificate.
func (w *world) nobody() *http.Client {
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(w.authority.BundlePEM())
	return w.client(&tls.Config{RootCAs: roots, ServerName: "localhost"})
}

func (w *world) client(config *tls.Config) *http.Client {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// operator gives an HTTP client of the Unix socket; its host is exeat.
func (w *world) operator() *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", w.socket)
	}}
	w.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

const local = "http://exeat"

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	server.Problem
}

// do sends a request; headers are pairs.
func (w *world) do(c *http.Client, method, url, body string, headers ...string) answer {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, url, strings.NewReader(body))
	w.must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	w.must(err)
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(resp.Body)
	w.must(err)
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		w.must(json.Unmarshal(a.body, &a.Problem))
	}
	return a
}

// into decodes a success and fails on anything else.
func (a answer) into(t testing.TB, status int, v any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// task starts a task through a sidecar.
func (w *world) task(c *http.Client) server.StartedTask {
	w.t.Helper()
	var t server.StartedTask
	w.do(c, "POST", w.base+"/v1/tasks", `{"type":"triage","claimed":{"purpose":"look"},"timeout":"10m"}`).into(w.t, 201, &t)
	return t
}

type issuer struct{}

func (issuer) JWKS() []byte      { return []byte(`{"keys":[]}`) }
func (issuer) Discovery() []byte { return []byte(`{"issuer":"https://example.org"}`) }

// enroller notes which process asked.
type enroller struct{ *world }

func (e enroller) Enroll(_ context.Context, agent string, pid int) (server.Enrollment, error) {
	e.enrolled <- pid
	return server.Enrollment{Instance: "spiffe://" + domain + "/sidecar/" + agent + "/new", GRPC: "127.0.0.1:1", API: e.base, TrustDomain: domain, WorkloadSocket: "/w"}, nil
}

// logged keeps what was logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// long is for what must happen; nothing waits for it unless it fails.
const long = 20 * time.Second

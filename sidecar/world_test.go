package sidecar_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/sidecar"
)

const domain = "example.org"

// world is everything around a sidecar: its trust domain, a control plane, and
// an API that says what arrived.
type world struct {
	authority *identity.Authority
	control   *control
	dir       string // short enough for sockets
	workload  string
	local     string // enrols whoever connects
	grpc, api string
	ca        []byte // the interception CA

	mu   sync.Mutex
	seen http.Header // the API's last request
}

// folder is private, and its path short enough for sockets.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "exeat-sc-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func id(t *testing.T, path string) identity.ID {
	t.Helper()
	parsed, err := identity.ParseID("spiffe://" + domain + path)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func newWorld(t *testing.T, ttl time.Duration) *world {
	t.Helper()
	w := &world{control: newControl(), dir: folder(t)}
	var err error
	w.authority, err = identity.OpenAuthority(identity.AuthorityConfig{
		Dir: filepath.Join(w.dir, "authority"), TrustDomain: domain, SVIDTTL: ttl, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w.serveWorkload(t)
	w.serveControl(t)
	w.serveAPI(t)
	w.serveLocal(t)
	ca, secret := interceptionCA(t, true)
	w.ca = ca
	w.control.set(secretType, "interception-ca", secret)
	w.control.set(routeType, "egress", egressRoutes())
	return w
}

func (w *world) serveWorkload(t *testing.T) {
	t.Helper()
	w.workload = filepath.Join(w.dir, "workload.sock")
	listener, err := identity.ListenUnix(w.workload)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.authority.ServeWorkloadOn(ctx, listener) }()
	t.Cleanup(func() { cancel(); <-ended })
}

func (w *world) serveControl(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.ServerTLS(w.authority.Source(id(t, "/exeat/grpc"), nil, nil), false))))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, w.control)
	secretv3.RegisterSecretDiscoveryServiceServer(server, w.control)
	go server.Serve(listener)
	t.Cleanup(server.Stop)
	w.grpc = listener.Addr().String()
}

func (w *world) serveAPI(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler:   http.HandlerFunc(w.answer),
		TLSConfig: identity.ServerTLS(w.authority.Source(id(t, "/exeat/api"), nil, nil), false),
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go server.ServeTLS(listener, "", "")
	t.Cleanup(func() { server.Close() })
	w.api = listener.Addr().String()
}

// answer tells who called, and with which certificate.
func (w *world) answer(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	w.seen = r.Header.Clone()
	w.mu.Unlock()
	peer, err := identity.PeerIDFromState(r.TLS)
	if err != nil {
		rw.WriteHeader(http.StatusUnauthorized)
		return
	}
	if r.URL.Path == "/v1/last" { // on a new connection next time
		rw.Header().Set("Connection", "close")
	}
	rw.Header().Set("Serial", r.TLS.PeerCertificates[0].SerialNumber.String())
	rw.Header().Set("Proto", r.Proto)
	io.WriteString(rw, peer.String()+" "+r.URL.Path)
}

func (w *world) lastHeader() http.Header {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// serveLocal enrols like exeatd dev does.
func (w *world) serveLocal(t *testing.T) {
	t.Helper()
	w.local = filepath.Join(w.dir, "local.sock")
	listener, err := identity.ListenUnix(w.local)
	if err != nil {
		t.Fatal(err)
	}
	type peerKey struct{}
	server := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			p, err := identity.PeerOf(c)
			if err != nil {
				return ctx
			}
			return context.WithValue(ctx, peerKey{}, p)
		},
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			p, ok := r.Context().Value(peerKey{}).(identity.Peer)
			var body struct{ Agent string }
			if json.NewDecoder(r.Body).Decode(&body) != nil || !ok || body.Agent != "triage" {
				rw.WriteHeader(http.StatusNotFound)
				io.WriteString(rw, `{"title":"No such agent","detail":"The catalog has none of this name."}`)
				return
			}
			instance := id(t, "/sidecar/triage/enrolled")
			if _, err := w.authority.Register(identity.Entry{ID: instance, PID: p.PID, Start: p.Start}); err != nil {
				rw.WriteHeader(http.StatusForbidden)
				return
			}
			rw.WriteHeader(http.StatusCreated)
			json.NewEncoder(rw).Encode(map[string]any{
				"instance": instance.String(), "grpc": w.grpc, "api": "https://" + w.api,
				"trustDomain": domain, "workloadSocket": w.workload, "clientEnv": map[string]string{"KEY": "exeat"},
			})
		}),
	}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
}

// config is that of a sidecar in this process.
func (w *world) config(t *testing.T) sidecar.Config {
	t.Helper()
	return sidecar.Config{
		RunDir: filepath.Join(w.dir, "run"), WorkloadSocket: w.workload, TrustDomain: domain,
		GRPC: w.grpc, API: "https://" + w.api, Log: slog.New(slog.DiscardHandler),
	}
}

// running is a sidecar of this process.
type running struct {
	sidecar.Status
	config sidecar.Config
	stop   func() error // ends it and gives what Run returned; once
}

// start runs a sidecar until the test ends.
func (w *world) start(t *testing.T, c sidecar.Config) running {
	t.Helper()
	if _, err := w.authority.Register(identity.Entry{ID: id(t, "/sidecar/triage/1"), PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready := make(chan sidecar.Status, 1)
	ended := make(chan error, 1)
	go func() { ended <- sidecar.Run(ctx, c, func(s sidecar.Status) { ready <- s }) }()
	stop := sync.OnceValue(func() error { cancel(); return <-ended })
	t.Cleanup(func() { stop() })
	select {
	case s := <-ready:
		return running{Status: s, config: c, stop: stop}
	case err := <-ended:
		ended <- err
		t.Fatalf("not ready: %v", err)
		return running{}
	}
}

// reply is what a client got.
type reply struct {
	status int
	header http.Header
	body   string
}

// raw sends a request byte for byte, as no client of good manners would.
func raw(t *testing.T, address, request string) (reply, error) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return reply{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, request); err != nil {
		return reply{}, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body)}, err
}

// adminGet asks Envoy's admin.
func adminGet(t *testing.T, runDir, method, path string) (reply, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(runDir, "admin.sock"))
		}}}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://admin"+path, nil)
	if err != nil {
		return reply{}, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header, string(body)}, err
}

var errNever = errors.New("it never became so")

// eventually asks until it is so, or the test's patience ends.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%s: %v", what, errNever)
		}
	}
}

package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/exeat-dev/exeat/policy"
)

// envoyConfig has the filter's settings that this package stands on (doc.go);
// everything in it listens and dials by Unix socket in one folder.
const envoyConfig = `
static_resources:
  listeners:
  - name: plain
    address: {pipe: {path: DIR/in}}
    filter_chains:
    - filters:
      - name: hcm
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: plain
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: "/"}, route: {cluster: up}, request_headers_to_remove: [grpc-timeout, x-forwarded-proto, x-request-id]}]
              typed_per_filter_config:
                envoy.filters.http.ext_authz:
                  "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute
                  check_settings: {context_extensions: {exeat.task: TASK, exeat.agent: triage, exeat.destination: "+"}}
          http_filters:
          - name: envoy.filters.http.ext_authz
            typed_config:
              "@type": type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz
              transport_api_version: V3
              grpc_service: {envoy_grpc: {cluster_name: exeat}, timeout: 5s}
              with_request_body: {max_request_bytes: 1, allow_partial_message: true, pack_as_bytes: true}
              encode_raw_headers: true
              include_tls_session: true
              clear_route_cache: true
              validate_mutations: true
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, suppress_envoy_headers: true}
  clusters:
  - name: exeat
    load_assignment: {cluster_name: exeat, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: DIR/grpc}}}}]}]}
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: {http2_protocol_options: {}}
  - name: up
    load_assignment: {cluster_name: up, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: DIR/up}}}}]}]}
`

// envoyPath is the binary that `make tools` installs, or EXEAT_ENVOY.
func envoyPath(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("EXEAT_ENVOY"); p != "" {
		return p
	}
	p, err := filepath.Abs("../.tools/envoy")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// realEnvoy runs Envoy before the world's Server and an upstream, which hands
// every request that it gets to seen. It gives clients of HTTP/1.1 and HTTP/2.
func realEnvoy(t *testing.T, w *world, seen chan<- *http.Request) map[string]*http.Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "exeat-") // a socket's path is at most 108 bytes long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	g := grpc.NewServer()
	w.server(t, sidecarOne).Register(g)
	up := &http.Server{Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r })}
	serveOn(t, filepath.Join(dir, "grpc"), g.Serve, g.Stop)
	serveOn(t, filepath.Join(dir, "up"), up.Serve, func() { _ = up.Close() })

	config := filepath.Join(dir, "envoy.yaml")
	text := strings.NewReplacer("DIR", dir, "TASK", string(taskID)).Replace(envoyConfig)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	startEnvoy(t, config, dir)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "in"))
	}
	clients := map[string]*http.Client{}
	for name, set := range map[string]func(*http.Protocols){
		"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
		"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
	} {
		var p http.Protocols
		set(&p)
		transport := &http.Transport{DialContext: dial, Protocols: &p}
		t.Cleanup(transport.CloseIdleConnections)
		clients[name] = &http.Client{Transport: transport}
	}
	return clients
}

func serveOn(t *testing.T, socket string, serve func(net.Listener) error, stop func()) {
	t.Helper()
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = serve(listener) }()
	t.Cleanup(func() { stop(); <-done })
}

// startEnvoy returns once Envoy takes connections; the test's end kills it.
func startEnvoy(t *testing.T, config, dir string) {
	t.Helper()
	cmd := exec.Command(envoyPath(t), "-c", config, "--concurrency", "1", "--use-dynamic-base-id", "-l", "error")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var words strings.Builder
	cmd.Stderr = &words
	if err := cmd.Start(); err != nil {
		t.Fatalf("no Envoy (run make tools): %v", err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", filepath.Join(dir, "in"))
		if err == nil {
			conn.Close()
			return
		}
		select {
		case <-ended:
			t.Fatalf("Envoy ended: %s", words.String())
		case <-t.Context().Done():
			t.Fatal("Envoy did not start")
		case <-tick.C:
		}
	}
}

// plainWorld has a grant for the plain-text destination.
func plainWorld(t *testing.T) *world {
	w := newWorld(t)
	w.views[taskID] = task(held(t, w.cat, grantID, "read-plain"))
	return w
}

func TestARealEnvoyPutsTheCredentialOnAndForgeriesOff(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	for name, client := range realEnvoy(t, plainWorld(t), seen) {
		req := plainRequest(t, nil)
		req.Header = http.Header{
			"Authorization": {"Bearer forged", "Bearer twice"}, "Cookie": {"a=1", "b=2"}, "X-Odd": {"1", "2"},
			"X-Trace-Id": {"7"}, "Accept": {"text/plain"}, "Exeat-Grant": {string(grantID)}, "Exeat-Task": {"t_forged"},
			"Grpc-Timeout": {"100000000m"}, "Proxy-Authorization": {"Basic x"}, "X-Forwarded-For": {"10.0.0.1"},
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: status %d", name, resp.StatusCode)
		}
		got := (<-seen).Header
		want := http.Header{
			"Authorization": {minted}, "X-Trace-Id": {"7"}, "Accept": {"text/plain"},
			"Accept-Encoding": {"gzip"}, "User-Agent": got["User-Agent"],
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: upstream got %v, want %v", name, got, want)
		}
	}
}

// A rule that allows no body lets none through, whatever the message says.
func TestARealEnvoyShowsABodyThatNoHeaderTellsOf(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	for name, client := range realEnvoy(t, plainWorld(t), seen) {
		resp, err := client.Do(plainRequest(t, strings.NewReader("hidden")))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != policy.BodyNotGranted.Status() || !strings.Contains(string(body), "body_not_granted") {
			t.Errorf("%s: status %d, body %s", name, resp.StatusCode, body)
		}
		// Framed as a body, but an empty one: that is none.
		if resp, err = client.Do(plainRequest(t, strings.NewReader(""))); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: an empty body is denied with %d", name, resp.StatusCode)
		}
		<-seen
	}
}

// plainRequest is the call that is granted, with a body of unannounced length if any.
func plainRequest(t *testing.T, body io.Reader) *http.Request {
	t.Helper()
	if body != nil {
		body = io.NopCloser(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://plain.example.org/v1/tickets/OPS-42", body)
	if err != nil {
		t.Fatal(err)
	}
	if body != nil {
		req.ContentLength = -1
	}
	return req
}

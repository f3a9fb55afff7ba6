package xds

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// envoyBinary is EXEAT_ENVOY, or the one that `make tools` put there.
func envoyBinary(t *testing.T) string {
	t.Helper()
	if p := os.Getenv("EXEAT_ENVOY"); p != "" {
		return p
	}
	p, err := filepath.Abs("../.tools/envoy")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("no Envoy: run `make tools` or set EXEAT_ENVOY: %v", err)
	}
	return p
}

// bootstrap is the least that a room needs around it: the sidecar package's, but
// for TLS towards the control plane.
const bootstrap = `{
 "node": {"id": "whatever it says", "cluster": "x"},
 "admin": {"address": {"pipe": {"path": %q}}},
 "bootstrap_extensions": [{"name": "envoy.bootstrap.internal_listener", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}}],
 "dynamic_resources": {
  "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "exeat"}}]},
  "cds_config": {"resource_api_version": "V3", "ads": {}}, "lds_config": {"resource_api_version": "V3", "ads": {}}},
 "static_resources": {
  "clusters": [
   {"name": "exeat", "type": "STATIC", "connect_timeout": "1s",
    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}},
    "load_assignment": {"cluster_name": "exeat", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": %s}}}}]}]}},
   {"name": "exeat_authz", "type": "STATIC", "connect_timeout": "1s",
    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", "explicit_http_config": {"http2_protocol_options": {}}}},
    "load_assignment": {"cluster_name": "exeat_authz", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": %s}}}}]}]}},
   {"name": "api_internal", "type": "STATIC", "connect_timeout": "1s",
    "load_assignment": {"cluster_name": "api_internal", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": %s}}}}]}]}}],
  "listeners": [{"name": "egress", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
   "filter_chains": [{"filters": [{"name": "hcm", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "egress", "codec_type": "HTTP1", "use_remote_address": true, "skip_xff_append": true, "generate_request_id": false,
    "delayed_close_timeout": "0.1s", "stream_idle_timeout": "0s",
    "http_protocol_options": {"accept_http_10": true}, "upgrade_configs": [{"upgrade_type": "CONNECT"}, {"upgrade_type": "websocket"}],
    "rds": {"route_config_name": "egress", "config_source": {"resource_api_version": "V3", "ads": {}, "initial_fetch_timeout": "0s"}},
    "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router", "reject_connect_request_early_data": true, "suppress_envoy_headers": true}}]}}]}]}]}}`

// realEnvoy is a running Envoy of a rig's.
type realEnvoy struct {
	t     *testing.T
	rig   *rig
	proxy string // host:port of egress
	admin *http.Client
	log   *bytes.Buffer
}

// startEnvoy runs an Envoy until the test ends. api is where api_internal leads.
func (r *rig) startEnvoy(api string) *realEnvoy {
	t := r.t
	t.Helper()
	dir, err := os.MkdirTemp("", "xds") // t.TempDir may be too long for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if api == "" {
		api = "127.0.0.1:9"
	}
	sock := filepath.Join(dir, "admin.sock")
	config := fmt.Sprintf(bootstrap, sock, portOf(r.addr), portOf(r.addr), portOf(api))
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	e := &realEnvoy{t: t, rig: r, log: new(bytes.Buffer)}
	cmd := exec.Command(envoyBinary(t), "-c", file, "--concurrency", "1", "--drain-time-s", "0",
		"--disable-hot-restart", "--log-level", "warning", "--component-log-level", "misc:error")
	cmd.Stderr = e.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("envoy: %s", e.log)
		}
	})
	e.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", sock)
	}}}
	r.awaitReady(0)
	e.proxy = e.egressAddress()
	return e
}

func portOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return port
}

func (e *realEnvoy) get(path string) []byte {
	e.t.Helper()
	resp, err := e.admin.Get("http://envoy" + path)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		e.t.Fatal(err)
	}
	return b
}

// egressAddress is where the static listener came to be; it waits for it.
func (e *realEnvoy) egressAddress() string {
	e.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		resp, err := e.admin.Get("http://envoy/listeners?format=json")
		if err != nil {
			continue
		}
		var all struct {
			Listeners []struct {
				Name    string `json:"name"`
				Address struct {
					Socket struct {
						Address string `json:"address"`
						Port    int    `json:"port_value"`
					} `json:"socket_address"`
				} `json:"local_address"`
			} `json:"listener_statuses"`
		}
		err = json.NewDecoder(resp.Body).Decode(&all)
		resp.Body.Close()
		if err != nil {
			continue
		}
		for _, l := range all.Listeners {
			if l.Name == "egress" && l.Address.Socket.Port != 0 {
				return fmt.Sprintf("%s:%d", l.Address.Socket.Address, l.Address.Socket.Port)
			}
		}
	}
	e.t.Fatalf("Envoy did not come up: %s", e.log)
	return ""
}

// client is an agent's, with a task's proxy credential, trusting the interception CA.
func (e *realEnvoy) client(room Room, h2 bool) *http.Client {
	e.t.Helper()
	v, release, err := e.rig.server.vaults.hold(e.t.Context(), testInstance)
	if err != nil {
		e.t.Fatal(err)
	}
	defer release()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(v.ca.certPEM)
	tr := &http.Transport{
		Proxy:             http.ProxyURL(&url.URL{Scheme: "http", Host: e.proxy}),
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		ForceAttemptHTTP2: h2,
		ProxyConnectHeader: http.Header{
			"Proxy-Authorization": {room.Authorization.Expose()},
		},
	}
	if !h2 {
		tr.TLSNextProto = map[string]func(string, *tls.Conn) http.RoundTripper{}
	}
	e.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: withCredential{tr, room}, Timeout: 30 * time.Second}
}

// withCredential also puts the proxy credential on plain requests.
type withCredential struct {
	*http.Transport
	room Room
}

func (w withCredential) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme == "http" {
		req.Header.Set("Proxy-Authorization", w.room.Authorization.Expose())
	}
	return w.Transport.RoundTrip(req)
}

// upstream is a TLS server for the given hosts, and its CA.
func upstream(t *testing.T, handler http.Handler, hosts ...string) (addr, caPEM string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "upstream"}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(handler)
	s.EnableHTTP2 = true
	s.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.StartTLS()
	t.Cleanup(s.Close)
	t.Cleanup(s.CloseClientConnections)
	return s.Listener.Addr().String(), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// room makes a task's room with one chain per destination.
func room(task string, destinations ...policy.Destination) Room {
	t := policy.Task{ID: policy.TaskID(task), Credential: policy.NewSecret("credential-of-" + task)}
	r := Room{Task: t.ID, Agent: testAgent, Authorization: policy.NewSecret(t.ProxyAuthorization())}
	for _, d := range destinations {
		for _, h := range d.Hosts {
			up := Upstream{Host: h, Destination: d}
			if d.Plain {
				r.Plain = append(r.Plain, up)
			} else {
				r.Chains = append(r.Chains, Chain{Host: h, Upstreams: []Upstream{up}})
			}
		}
	}
	return r
}

// tls443 is a destination on the standard port that is really somewhere else.
func tls443(name, host, addr, ca string) policy.Destination {
	return policy.Destination{Name: name, Hosts: []string{host}, Port: 443, Addresses: []string{addr}, CAPEM: ca}
}

// echo answers with what the upstream saw.
func echo(w http.ResponseWriter, req *http.Request) {
	fmt.Fprintf(w, "%s %s %s\n", req.Method, req.Host, req.RequestURI)
	for name, values := range req.Header {
		fmt.Fprintf(w, "%s: %s\n", strings.ToLower(name), strings.Join(values, "|"))
	}
}

func fetch(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return resp.StatusCode, string(b)
}

// counters reads some of Envoy's.
func (e *realEnvoy) counters(names ...string) string {
	e.t.Helper()
	var out []string
	for line := range strings.SplitSeq(string(e.get("/stats")), "\n") {
		for _, name := range names {
			if strings.HasPrefix(line, name+":") {
				out = append(out, line)
			}
		}
	}
	return strings.Join(out, ", ")
}

package sidecar

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/identity"
)

// Config is one sidecar instance.
type Config struct {
	// Envoy is the path of the Envoy binary; empty looks for it (see FindEnvoy).
	Envoy string
	// RunDir holds sockets and the bootstrap: 0700, made when absent. Empty
	// makes a temporary one, removed at the end.
	RunDir string
	// BundleDir holds the certificates that the agent trusts. Empty means RunDir,
	// which only the same user can read.
	BundleDir string

	// WorkloadSocket is the SPIFFE Workload API: a path, or an address.
	WorkloadSocket string
	// Instance is the sidecar's own SPIFFE ID; empty takes the default one.
	Instance string
	// TrustDomain is that of the servers; empty means the sidecar's own.
	TrustDomain string
	// The servers, each as one or, by commas, several that stand in for each other.
	GRPC  string // host:port of xDS and SDS
	Authz string // host:port of ext_authz and access logs; empty means GRPC's
	API   string // URL of the HTTP API, or its host:port

	Egress    string // where the proxy listens, on loopback; empty means 127.0.0.1:0
	APIListen string // where EXEAT_URL listens, on loopback; empty means 127.0.0.1:0

	StartTimeout time.Duration // from start to ready; 0 means 30 s
	StopTimeout  time.Duration // from SIGTERM to SIGKILL; 0 means 3 s
	ClientEnv    map[string]string
	Log          *slog.Logger // nil means slog.Default
}

// Status is a sidecar in force, for whoever starts the agent.
type Status struct {
	Proxy      string            `json:"proxy"`      // host:port of the forward proxy
	API        string            `json:"api"`        // EXEAT_URL
	CABundle   string            `json:"caBundle"`   // PEM: the system's roots and the sidecar's CA
	CAFile     string            `json:"caFile"`     // PEM: the sidecar's CA alone
	TrustStore string            `json:"trustStore"` // the bundle for Java; its password is "changeit"
	Instance   string            `json:"instance"`   // the sidecar's SPIFFE ID
	ClientEnv  map[string]string `json:"clientEnv,omitempty"`
}

// settings is a Config in which nothing can be wrong any more.
type settings struct {
	Config
	instance identity.ID // zero: whatever the Workload API says first
	servers
	egress    listenAddress
	apiListen listenAddress
}

// servers are what the sidecar depends on; never none of a kind.
type servers struct{ grpc, authz, api []endpoint }

// endpoint is a server that is dialled.
type endpoint struct {
	host string
	port uint32
}

func (e endpoint) String() string { return net.JoinHostPort(e.host, strconv.Itoa(int(e.port))) }

// isIP tells whether there is nothing to resolve.
func (e endpoint) isIP() bool { return net.ParseIP(e.host) != nil }

// listenAddress is a loopback address; port 0 lets the system choose.
type listenAddress struct {
	ip   net.IP
	port uint32
}

func (c Config) check() (settings, error) {
	s := settings{Config: c}
	s.defaults()
	var errs [7]error
	if c.Instance != "" {
		s.instance, errs[0] = identity.ParseID(c.Instance)
	}
	s.grpc, errs[1] = parseEach("GRPC", c.GRPC, parseEndpoint)
	s.authz, errs[6] = parseEach("Authz", s.Authz, parseEndpoint)
	s.api, errs[2] = parseEach("API", c.API, parseAPI)
	s.egress, errs[3] = parseListen("Egress", s.Egress)
	s.apiListen, errs[4] = parseListen("APIListen", s.APIListen)
	if c.WorkloadSocket == "" {
		errs[5] = errors.New("WorkloadSocket is missing: the SPIFFE Workload API gives the sidecar its identity")
	}
	if err := errors.Join(errs[:]...); err != nil {
		return settings{}, fmt.Errorf("sidecar: %w", err)
	}
	return s, nil
}

func (s *settings) defaults() {
	if s.Authz == "" {
		s.Authz = s.GRPC
	}
	if s.Egress == "" {
		s.Egress = "127.0.0.1:0"
	}
	if s.APIListen == "" {
		s.APIListen = "127.0.0.1:0"
	}
	if s.StartTimeout == 0 {
		s.StartTimeout = 30 * time.Second
	}
	if s.StopTimeout == 0 {
		s.StopTimeout = 3 * time.Second
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
}

// parseEach reads a list by commas.
func parseEach(field, list string, parse func(field, address string) (endpoint, error)) ([]endpoint, error) {
	var out []endpoint
	for address := range strings.SplitSeq(list, ",") {
		e, err := parse(field, strings.TrimSpace(address))
		if err != nil {
			return nil, err
		}
		out = append(out, e)
	}
	return out, nil
}

func parseEndpoint(field, address string) (endpoint, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return endpoint{}, fmt.Errorf("%s must be host:port", field)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return endpoint{}, fmt.Errorf("%s needs a port from 1 to 65535", field)
	}
	return endpoint{host: host, port: uint32(n)}, nil
}

// parseAPI takes a URL, of which only the host counts: the API's paths are
// fixed, and it is always TLS.
func parseAPI(field, address string) (endpoint, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return parseEndpoint(field, address)
	}
	if u.Scheme != "https" {
		return endpoint{}, fmt.Errorf("%s must be an https URL", field)
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "443")
	}
	return parseEndpoint(field, host)
}

// parseListen takes loopback addresses only: neither listener asks who calls.
func parseListen(field, address string) (listenAddress, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return listenAddress{}, fmt.Errorf("%s must be address:port", field)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return listenAddress{}, fmt.Errorf("%s needs a port from 0 to 65535", field)
	}
	ip := net.ParseIP(host)
	if host == "localhost" {
		ip = net.IPv4(127, 0, 0, 1)
	}
	if ip == nil || !ip.IsLoopback() {
		return listenAddress{}, fmt.Errorf("%s must be a loopback address, such as 127.0.0.1:0", field)
	}
	return listenAddress{ip: ip, port: uint32(n)}, nil
}

// openRunDir makes the run folder, and says how to leave it behind.
func openRunDir(path string) (dir string, done func(), err error) {
	if path == "" {
		dir, err = os.MkdirTemp("", "exeat-")
		return dir, func() { _ = os.RemoveAll(dir) }, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return "", nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", nil, fmt.Errorf("%s must have mode 0700: it holds the sidecar's sockets; run chmod 700 on it", path)
	}
	return path, func() {}, nil
}

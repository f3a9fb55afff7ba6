package main

import (
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/exeat-dev/exeat/store"
)

// check turns the file into settings. After an error they are of no use, and
// the checks go on: all errors are told at once.
func (c *config) check() settings {
	c.checkRoles()
	f := &c.file
	s := settings{
		roles: c.roles, data: f.Data, trustDomain: f.Identity.TrustDomain, workloadSocket: c.workloadSocket(),
		issuer: f.Issuer, auditSync: f.Audit.Sync == "disk",
		drain:         c.duration("drain", f.Drain, drainTime, 0, 5*time.Minute),
		connectionAge: c.duration("connectionAge", f.ConnectionAge, 15*time.Minute, time.Minute, 24*time.Hour),
	}
	if f.Data == "" {
		c.fail("data", "is missing: name a folder of this process alone; its audit log lies there")
	} else if data, err := filepath.Abs(f.Data); err == nil {
		s.data = data // whoever reads the endpoints need not stand where we were started
	}
	if _, err := spiffeid.TrustDomainFromString(f.Identity.TrustDomain); err != nil {
		c.fail("identity.trustDomain", "want a SPIFFE trust domain, such as example.org")
	}
	if f.Audit.Sync != "" && f.Audit.Sync != "process" && f.Audit.Sync != "disk" {
		c.fail("audit.sync", "want process (a decision survives the process) or disk (it survives a power loss)")
	}
	s.replica = c.replica()
	s.store = c.store()
	s.listen = c.listen()
	c.roleAPI(&s)
	c.notify(&s)
	c.roleKeys(&s)
	return s
}

func (c *config) checkRoles() {
	if len(c.file.Roles) == 0 {
		c.fail("roles", "is missing: want a list of api, xds and authz, here or with --roles")
		c.roles = everyRole
	}
	for i, name := range c.file.Roles {
		r, err := parseRole(strings.TrimSpace(name))
		if err != nil {
			field := "roles"
			if c.flags["roles"] == "" {
				field = fieldAt("roles", i)
			}
			c.fail(field, "%v", err)
		} else if !c.roles.has(r) {
			c.roles = append(c.roles, r)
		}
	}
}

// replica is the name given with something that no other process has: two that
// answered under one name would each be taken for the other.
func (c *config) replica() string {
	name := c.file.Replica
	if name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "exeatd"
		}
		name = host + "-" + strings.ReplaceAll(c.roles.String(), ",", "-")
	}
	return name + "-" + rand.Text()[:8]
}

// workloadSocket is the file's, else the one that SPIFFE's own variable names.
func (c *config) workloadSocket() string {
	const field = "identity.workloadSocket"
	socket := cmp.Or(c.file.Identity.WorkloadSocket, os.Getenv("SPIFFE_ENDPOINT_SOCKET"))
	if socket == "" {
		c.fail(field, "is missing: want the SPIFFE Workload API's address, such as unix:///run/spire/agent.sock; servers have no other certificate")
		return ""
	}
	address := socket
	if !strings.Contains(address, ":") {
		address = "unix://" + address
	}
	if err := workloadapi.ValidateAddress(address); err != nil {
		c.fail(field, "want a path or an address such as unix:///run/spire/agent.sock: %v", err)
	}
	return socket
}

// store wants one of two places. A folder is for one process alone, which then
// must be able to do without others.
func (c *config) store() store.Config {
	f := &c.file.Store
	out := store.Config{Staleness: c.duration("store.staleness", f.Staleness, 2*time.Second, 500*time.Millisecond, 10*time.Second)}
	switch {
	case len(f.Endpoints) > 0 && f.Dir != "":
		c.fail("store.dir", "stands beside endpoints: want one of them")
	case f.Dir != "":
		out.Dir = f.Dir
		if !c.roles.all() {
			c.fail("store.dir", "an embedded store is seen by one process alone, which then needs all roles: use endpoints, or add the roles that are missing")
		}
		if f.TLS != nil {
			c.fail("store.tls", "an embedded store has no listener: leave it out")
		}
	case len(f.Endpoints) > 0:
		out.Endpoints, out.TLS = f.Endpoints, c.storeTLS()
		for i, e := range f.Endpoints {
			if u, err := url.Parse(e); err != nil || u.Scheme != "https" || u.Port() == "" || u.Path != "" {
				c.fail(fieldAt("store.endpoints", i), "want the client URL of an etcd member, such as https://etcd-0.example.org:2379")
			}
		}
	default:
		c.fail("store", "want endpoints of an etcd cluster, or dir for an etcd inside this process")
	}
	return out
}

// storeTLS reads the client's certificate at each handshake, so that it may be
// renewed without a restart.
func (c *config) storeTLS() *tls.Config {
	f := c.file.Store.TLS
	if f == nil {
		c.fail("store.tls", "is missing: etcd is reached by mutual TLS; want ca, cert and key")
		return nil
	}
	roots := x509.NewCertPool()
	if pem, err := os.ReadFile(f.CA); err != nil {
		c.fail("store.tls.ca", "want a PEM file of the CA of etcd's servers: %v", err)
	} else if !roots.AppendCertsFromPEM(pem) {
		c.fail("store.tls.ca", "%s holds no certificate: want PEM", f.CA)
	}
	if f.Cert == "" || f.Key == "" {
		c.fail("store.tls", "want cert and key: the client certificate that etcd knows this process by")
		return nil
	}
	if _, err := tls.LoadX509KeyPair(f.Cert, f.Key); err != nil {
		c.fail("store.tls.cert", "want a PEM certificate and its key: %v", err)
	}
	c.private("store.tls.key", f.Key)
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
			return &pair, err
		},
	}
}

// private wants a file that its owner alone can read.
func (c *config) private(field, path string) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		c.fail(field, "cannot be read: %v", err)
	case info.Mode().Perm()&0o077 != 0:
		c.fail(field, "%s has mode %04o and others may have read it: chmod 600, or make another", path, info.Mode().Perm())
	}
}

// listen wants what this process's roles serve on, and drops the rest.
func (c *config) listen() addresses {
	f := &c.file.Listen
	out := addresses{metrics: f.Metrics}
	c.address("listen.metrics", f.Metrics, "/livez, /readyz and /metrics")
	if c.roles.has(roleAPI) {
		out.api, out.local = f.API, f.Local
		c.address("listen.api", f.API, "the HTTP API")
		if len(f.Local) > maxSocketPath {
			c.fail("listen.local", "want a shorter path: a Unix socket's has at most %d bytes", maxSocketPath)
		}
	}
	if c.roles.has(roleXDS) || c.roles.has(roleAuthz) {
		out.grpc = f.GRPC
		c.address("listen.grpc", f.GRPC, "xDS, ext_authz and access logs")
	}
	return out
}

func (c *config) address(field, value, what string) {
	if value == "" {
		c.fail(field, "is missing: want the HOST:PORT of %s, such as 0.0.0.0:8471", what)
	} else if _, _, err := net.SplitHostPort(value); err != nil {
		c.fail(field, "want HOST:PORT, such as 0.0.0.0:8471")
	}
}

// roleAPI checks what api, and authz for the tokens that it signs, need besides.
func (c *config) roleAPI(s *settings) {
	f := &c.file
	if c.roles.has(roleAPI) || c.roles.has(roleAuthz) {
		u, err := url.Parse(f.Issuer)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			c.fail("issuer", "want the https URL, without query, by which upstreams reach the API: tokens are issued under it (RFC 8414 section 2)")
		}
	}
	s.catalog, s.secrets = f.Catalog.Dir, f.Catalog.Secrets
	if c.roles.has(roleAPI) {
		if info, err := os.Stat(f.Catalog.Dir); err != nil || !info.IsDir() {
			c.fail("catalog.dir", "want the folder of the catalog's YAML files")
		}
	}
	s.policies = bundleSource{f.Catalog.Policies.Bundle, f.Catalog.Policies.Keys, f.Catalog.Policies.CA}
	if _, err := s.policies.open(nil); err != nil && c.roles.has(roleAPI) {
		c.fail("catalog.policies", "%v", err)
	}
	if f.Catalog.Secrets != "" {
		if info, err := os.Stat(f.Catalog.Secrets); err != nil || !info.IsDir() {
			c.fail("catalog.secrets", "want the folder under which the catalog's file references lie")
		}
	}
}

// roleKeys checks the keys of this process's roles. The others' are not even
// looked at: a process must not be able to read what it has no use for.
func (c *config) roleKeys(s *settings) {
	f := &c.file.Keys
	if c.roles.has(roleAuthz) {
		s.authzKey = f.Authz
		c.key("keys.authz", f.Authz)
	}
	if c.roles.has(roleXDS) {
		s.xdsKey = f.XDS
		c.key("keys.xds", f.XDS)
	}
	if s.authzKey != "" && s.authzKey == s.xdsKey {
		c.fail("keys.xds", "is the same file as keys.authz: each role has a key of its own")
	}
}

func (c *config) key(field, path string) {
	if path == "" {
		c.fail(field, "is missing: make the role's key once with `exeatd keygen FILE`, and give it to each process of the role")
	} else if _, err := openKey(path, false); err != nil {
		c.fail(field, "%v", err)
	}
}

// duration gives the value, or what stands for none.
func (c *config) duration(field string, d *metav1.Duration, otherwise, least, most time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	if d.Duration < least || d.Duration > most {
		c.fail(field, "want %v to %v", least, most)
	}
	return d.Duration
}

// fieldAt names one item of a list.
func fieldAt(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

package stack

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/examples/tickets"
	"github.com/exeat-dev/exeat/identity"
)

// Cluster is exeatd in several processes over a real etcd cluster, with an
// upstream that keeps all that reaches it.
type Cluster struct {
	Dir     string // short: Unix sockets lie in it
	Bin     string
	Etcd    *Etcd
	Exeatds []*Exeatd
	Mirror  *Mirror
	Catalog string

	Identities *identity.Authority
	Workload   string // its socket
	staleness  time.Duration
}

// ClusterOptions say how many processes there are, and of which roles.
type ClusterOptions struct {
	Members   int      // of etcd
	Roles     []string // of each process, such as "api,xds"
	Staleness time.Duration
}

// TicketsHost is the host of the upstream.
const TicketsHost = "tickets.example.org"

// StartCluster starts all of it and returns when every process is ready.
func StartCluster(t testing.TB, o ClusterOptions) *Cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "exeat-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := &Cluster{Dir: dir, Bin: Bin(t), Catalog: filepath.Join(dir, "catalog"), Workload: filepath.Join(dir, "w.sock"), staleness: o.Staleness}
	c.Mirror = NewMirror(t, TicketsHost, true)
	if err := tickets.WriteCatalog(c.Catalog, c.Mirror.Address, c.Mirror.CAPEM); err != nil {
		t.Fatal(err)
	}
	c.serveIdentities(t)
	c.Etcd = StartEtcd(t, o.Members)
	for _, name := range []string{"authz", "xds"} {
		cmd := exec.Command(filepath.Join(c.Bin, "exeatd"), "keygen", c.key(name))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for i, roles := range o.Roles {
		c.Exeatds = append(c.Exeatds, c.newExeatd(t, i, roles))
	}
	for _, e := range c.Exeatds {
		e.Start(t)
	}
	for _, e := range c.Exeatds {
		e.AwaitReady(t)
	}
	return c
}

func (c *Cluster) key(role string) string { return filepath.Join(c.Dir, "keys", role+".key") }

// serveIdentities serves the Workload API that every process gets its
// certificates from, as SPIRE's agent would.
func (c *Cluster) serveIdentities(t testing.TB) {
	t.Helper()
	dir := filepath.Join(c.Dir, "authority")
	c.Identities = Authority(t, dir, "example.org")
	l, err := identity.ListenUnix(c.Workload)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- c.Identities.ServeWorkloadOn(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if err := <-served; err != nil {
			t.Errorf("workload API: %v", err)
		}
	})
}

// register makes a process a workload.
func (c *Cluster) register(t testing.TB, pid int, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if _, err := c.Identities.Register(identity.Entry{ID: ID(t, id), PID: pid, DNSNames: []string{"localhost"}}); err != nil {
			t.Fatalf("register %d as %s: %v", pid, id, err)
		}
	}
}

// Exeatd is one process of exeatd. It reaches each member of etcd through a
// link of its own.
type Exeatd struct {
	*Proc
	Roles   string
	Stores  []*Link
	API     string // host:port
	GRPC    string
	Metrics string
	Local   string // socket
	Data    string
	Config  string // file
	cluster *Cluster
}

// Has reports whether the process has a role.
func (e *Exeatd) Has(role string) bool { return strings.Contains(","+e.Roles+",", ","+role+",") }

func (c *Cluster) newExeatd(t testing.TB, i int, roles string) *Exeatd {
	t.Helper()
	name := fmt.Sprintf("exeatd-%d-%s", i, strings.ReplaceAll(roles, ",", "-"))
	e := &Exeatd{
		Roles: roles, API: FreeAddress(t), GRPC: FreeAddress(t), Metrics: FreeAddress(t),
		Local: filepath.Join(c.Dir, fmt.Sprintf("%d.sock", i)), Data: filepath.Join(c.Dir, fmt.Sprintf("data-%d", i)),
		Config: filepath.Join(c.Dir, name+".yaml"), cluster: c,
	}
	for _, m := range c.Etcd.Members {
		e.Stores = append(e.Stores, NewLink(t, m.Client))
	}
	WriteFiles(t, c.Dir, map[string]string{name + ".yaml": e.file()})
	e.Proc = NewProc(t, name, func() *exec.Cmd {
		return exec.Command(filepath.Join(c.Bin, "exeatd"), "serve", "--config", e.Config)
	})
	return e
}

// file is its configuration.
func (e *Exeatd) file() string {
	c := e.cluster
	var endpoints []string
	for _, l := range e.Stores {
		endpoints = append(endpoints, `"https://`+l.Address+`"`)
	}
	return fmt.Sprintf(`roles: [%s]
replica: %s
data: %s
store:
  endpoints: [%s]
  tls: {ca: %s, cert: %s, key: %s}
  staleness: %s
identity: {workloadSocket: %s, trustDomain: example.org}
listen: {api: %q, grpc: %q, metrics: %q, local: %s}
issuer: %s
keys: {authz: %s, xds: %s}
catalog: {dir: %s}
drain: 2s
`, e.Roles, filepath.Base(e.Data), e.Data, strings.Join(endpoints, ", "),
		filepath.Join(c.Etcd.TLS, "ca.pem"), filepath.Join(c.Etcd.TLS, "cert.pem"), filepath.Join(c.Etcd.TLS, "key.pem"), c.staleness,
		c.Workload, e.API, e.GRPC, e.Metrics, e.Local, "https://issuer.example.org", c.key("authz"), c.key("xds"), c.Catalog)
}

// Start starts it and gives it the identities of its servers.
func (e *Exeatd) Start(t testing.TB) {
	t.Helper()
	e.Proc.Start(t)
	e.cluster.register(t, e.PID(), "spiffe://example.org/exeat/api", "spiffe://example.org/exeat/grpc")
}

// AwaitReady returns when it says that it is.
func (e *Exeatd) AwaitReady(t testing.TB) {
	t.Helper()
	Await(t, e.Name+" to be ready", func() bool {
		if !e.Running() {
			t.Fatalf("%s ended:\n%s", e.Name, e.Log)
		}
		return e.Ready()
	})
}

// Ready asks whether it is.
func (e *Exeatd) Ready() bool { return statusOf("http://"+e.Metrics+"/readyz") == 200 }

// Operator is a client of its local socket.
func (e *Exeatd) Operator(t testing.TB) *client.Client {
	t.Helper()
	c, err := client.NewLocal(e.Local)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// Of lists the processes of a role.
func (c *Cluster) Of(role string) []*Exeatd {
	var out []*Exeatd
	for _, e := range c.Exeatds {
		if e.Has(role) {
			out = append(out, e)
		}
	}
	return out
}

// ClusterSidecar is a sidecar of a cluster. It reaches each process through a
// link of its own.
type ClusterSidecar struct {
	*Sidecar
	Links map[*Exeatd][]*Link // of gRPC and the API
	Log   *Log
}

// Sidecar starts one for an agent.
func (c *Cluster) Sidecar(t testing.TB, agent, instance string) *ClusterSidecar {
	t.Helper()
	s := &ClusterSidecar{Links: map[*Exeatd][]*Link{}, Log: &Log{}}
	addresses := map[string][]string{}
	for _, e := range c.Exeatds {
		grpc, api := NewLink(t, e.GRPC), NewLink(t, e.API)
		s.Links[e] = []*Link{grpc, api}
		for role, l := range map[string]*Link{"xds": grpc, "authz": grpc, "api": api} {
			if e.Has(role) {
				addresses[role] = append(addresses[role], l.Address)
			}
		}
	}
	id := "spiffe://example.org/sidecar/" + agent + "/" + instance
	s.Sidecar = startSidecar(t, s.Log, func(pid int) { c.register(t, pid, id) }, filepath.Join(c.Bin, "exeat-sidecar"),
		"--workload-socket", c.Workload, "--instance", id, "--grpc", strings.Join(addresses["xds"], ","),
		"--authz", strings.Join(addresses["authz"], ","), "--api", strings.Join(addresses["api"], ","))
	return s
}

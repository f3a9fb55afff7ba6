package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Etcd is a real cluster of etcd, each member a process of its own.
type Etcd struct {
	Dir     string
	TLS     string // folder of ca.pem, cert.pem and key.pem
	Members []*Member
}

// Member is one member. Peers reach it through Peers.
type Member struct {
	*Proc
	Client string // host:port
	Peers  *Link
	Dir    string
}

// StartEtcd starts n members and returns when they answer.
func StartEtcd(t testing.TB, n int) *Etcd {
	t.Helper()
	e := NewEtcd(t, n)
	for _, m := range e.Members {
		m.Start(t)
	}
	e.AwaitReady(t)
	return e
}

// NewEtcd prepares n members without starting them.
func NewEtcd(t testing.TB, n int) *Etcd {
	t.Helper()
	e := &Etcd{Dir: t.TempDir()}
	e.TLS = filepath.Join(e.Dir, "tls")
	WriteTLS(t, e.TLS)
	for i := range n {
		m := &Member{Client: FreeAddress(t), Peers: NewLink(t, FreeAddress(t)), Dir: filepath.Join(e.Dir, fmt.Sprintf("member-%d", i))}
		m.Proc = NewProc(t, fmt.Sprintf("etcd-%d", i), func() *exec.Cmd { return e.command(t, m) })
		e.Members = append(e.Members, m)
	}
	return e
}

func (e *Etcd) command(t testing.TB, m *Member) *exec.Cmd {
	return exec.Command(etcdBinary(t), "--name", filepath.Base(m.Dir), "--dir", m.Dir, "--tls", e.TLS,
		"--client", "https://"+m.Client, "--peer", "https://"+m.Peers.To, "--advertise", "https://"+m.Peers.Address, "--cluster", e.Initial())
}

// Initial is etcd's initial cluster: each member's name and URL for peers.
func (e *Etcd) Initial() string {
	var all []string
	for _, m := range e.Members {
		all = append(all, filepath.Base(m.Dir)+"=https://"+m.Peers.Address)
	}
	return strings.Join(all, ",")
}

// Connect is a client of some members; of all when none is named.
func (e *Etcd) Connect(t testing.TB, members ...*Member) *clientv3.Client {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(filepath.Join(e.TLS, "cert.pem"), filepath.Join(e.TLS, "key.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(filepath.Join(e.TLS, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	if len(members) == 0 {
		members = e.Members
	}
	var endpoints []string
	for _, m := range members {
		endpoints = append(endpoints, "https://"+m.Client)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, TLS: &tls.Config{
		RootCAs: roots, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12,
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// AwaitReady returns when the cluster takes a write.
func (e *Etcd) AwaitReady(t testing.TB) {
	t.Helper()
	c := e.Connect(t)
	Await(t, "a write to etcd", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := c.Put(ctx, "test/ready", "")
		return err == nil
	})
}

// Leader is the member that leads now, by what the others say; nil when none does.
func (e *Etcd) Leader(t testing.TB) *Member {
	t.Helper()
	for _, m := range e.Members {
		if !m.Running() {
			continue
		}
		c := e.Connect(t, m)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		s, err := c.Status(ctx, "https://"+m.Client)
		cancel()
		if err == nil && s.Leader != 0 && s.Leader == s.Header.MemberId {
			return m
		}
	}
	return nil
}

// FreeAddress is an address on loopback that nobody listens on. It is given
// away, so that a process can be started again on the same.
func FreeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// etcdBinary is the member's program, built once. It is built without the race
// detector: it is not what is under test.
func etcdBinary(t testing.TB) string {
	t.Helper()
	path, err := buildEtcd()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var buildEtcd = sync.OnceValues(func() (string, error) {
	path := filepath.Join(Root(), "bin", "test", "etcd")
	// The name is the process's own until it is whole: packages are tested at once.
	tmp := fmt.Sprintf("%s.%d", path, os.Getpid())
	cmd := exec.Command("go", "build", "-o", tmp, "./test/etcd")
	cmd.Dir, cmd.Stdout, cmd.Stderr = Root(), os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", err
	}
	return path, os.Rename(tmp, path)
})

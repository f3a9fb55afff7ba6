package identity_test

import (
	"bytes"
	"crypto/x509"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/identity"
)

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestTheRootIsKeptAndPrivate(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	first := open(t, dir, 0)
	if !bytes.Equal(first.BundlePEM(), open(t, dir, 0).BundlePEM()) {
		t.Error("the second opening made another root")
	}
	file := filepath.Join(dir, "authority.pem")
	for path, want := range map[string]os.FileMode{dir: 0o700, file: 0o600} {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v (%v)", path, info.Mode(), want, err)
		}
	}
}

func TestAnAuthorityRefuses(t *testing.T) {
	t.Parallel()
	spoil := map[string]struct {
		do   func(t *testing.T, dir string) identity.AuthorityConfig
		want string
	}{
		"a folder that others can enter": {func(t *testing.T, dir string) identity.AuthorityConfig {
			os.Chmod(dir, 0o755)
			return identity.AuthorityConfig{Dir: dir, TrustDomain: domain}
		}, "chmod 700"},
		"a key that others can read": {func(t *testing.T, dir string) identity.AuthorityConfig {
			os.Chmod(filepath.Join(dir, "authority.pem"), 0o640)
			return identity.AuthorityConfig{Dir: dir, TrustDomain: domain}
		}, "chmod 600"},
		"another trust domain": {func(t *testing.T, dir string) identity.AuthorityConfig {
			return identity.AuthorityConfig{Dir: dir, TrustDomain: "other.example"}
		}, "another trust domain"},
		"a file cut short": {func(t *testing.T, dir string) identity.AuthorityConfig {
			os.Truncate(filepath.Join(dir, "authority.pem"), 300)
			return identity.AuthorityConfig{Dir: dir, TrustDomain: domain}
		}, "private key and its certificate"},
		"a root that has expired": {func(t *testing.T, dir string) identity.AuthorityConfig {
			later := func() time.Time { return time.Now().AddDate(11, 0, 0) }
			return identity.AuthorityConfig{Dir: dir, TrustDomain: domain, Clock: later}
		}, "not valid now"},
		"no trust domain": {func(t *testing.T, dir string) identity.AuthorityConfig {
			return identity.AuthorityConfig{Dir: dir}
		}, "trust domain"},
		"a negative life": {func(t *testing.T, dir string) identity.AuthorityConfig {
			return identity.AuthorityConfig{Dir: dir, TrustDomain: domain, SVIDTTL: -1}
		}, "SVIDTTL"},
	}
	for name, c := range spoil {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folder(t)
			open(t, dir, 0)
			if _, err := identity.OpenAuthority(c.do(t, dir)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}

func TestTheBundleMayHoldSeveralRoots(t *testing.T) {
	t.Parallel()
	dir := folder(t)
	own, next := open(t, dir, 0), open(t, folder(t), 0)
	file, err := os.OpenFile(filepath.Join(dir, "authority.pem"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	file.Write(next.BundlePEM())
	file.Close()
	both := open(t, dir, 0)
	if !bytes.Equal(both.BundlePEM(), append(own.BundlePEM(), next.BundlePEM()...)) {
		t.Error("the second root is not in the bundle")
	}
	svid, err := both.Source(mustID(t, "/a"), nil, nil).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(own.BundlePEM())
	if _, err := svid.Certificates[0].Verify(x509.VerifyOptions{Roots: roots}); err != nil {
		t.Errorf("the first root no longer signs: %v", err)
	}
}

func TestAnSVIDIsAsTheStandardAsks(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), time.Minute)
	svid, err := a.Source(mustID(t, "/exeat/api"), []string{"localhost"}, []net.IP{net.IPv6loopback}).GetX509SVID()
	if err != nil {
		t.Fatal(err)
	}
	cert := svid.Certificates[0]
	switch {
	case len(cert.URIs) != 1 || cert.URIs[0].String() != "spiffe://example.org/exeat/api":
		t.Errorf("URI names %v", cert.URIs)
	case cert.IsCA || cert.KeyUsage != x509.KeyUsageDigitalSignature || len(cert.ExtKeyUsage) != 2:
		t.Errorf("usage: CA %v, %v, %v", cert.IsCA, cert.KeyUsage, cert.ExtKeyUsage)
	case time.Until(cert.NotAfter) > time.Minute:
		t.Errorf("valid until %v", cert.NotAfter)
	case cert.VerifyHostname("localhost") != nil || cert.VerifyHostname("::1") != nil:
		t.Error("the names for plain HTTPS clients are missing")
	}
	if _, err := a.Source(identity.ID{}, nil, nil).GetX509SVID(); err == nil {
		t.Error("an SVID for nobody was signed")
	}
}

// sleeper is a process that does nothing until it is ended.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	return cmd
}

func TestOnlyRunningProcessesAreRegistered(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	id := mustID(t, "/agent/1")
	for name, e := range map[string]identity.Entry{
		"a PID of nobody":            {ID: id, PID: dead.Process.Pid},
		"PID 0":                      {ID: id},
		"a start time of another":    {ID: id, PID: os.Getpid(), Start: 1},
		"an ID of elsewhere":         {PID: os.Getpid()},
		"an ID without any workload": {ID: id.TrustDomain().ID(), PID: os.Getpid()},
	} {
		if _, err := a.Register(e); err == nil {
			t.Errorf("%s was registered", name)
		}
	}
	if _, err := a.Register(identity.Entry{ID: id, PID: sleeper(t).Process.Pid}); err != nil {
		t.Error(err)
	}
}

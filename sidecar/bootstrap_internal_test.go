package sidecar

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/identity"
)

func plan(t *testing.T, dir string) blueprint {
	t.Helper()
	var b blueprint
	var errs [3]error
	b.instance, errs[0] = identity.ParseID("spiffe://example.org/sidecar/triage/1")
	b.grpcServer, errs[1] = identity.GRPCServer("example.org")
	b.apiServer, errs[2] = identity.APIServer("example.org")
	if err := errors.Join(errs[:]...); err != nil {
		t.Fatal(err)
	}
	b.dir = dir
	b.grpc, b.authz, b.api = one("127.0.0.1", 1), one("127.0.0.1", 2), one("127.0.0.1", 3)
	b.egress, b.apiListen = listenAddress{ip: net.IPv4(127, 0, 0, 1)}, listenAddress{ip: net.IPv4(127, 0, 0, 1)}
	return b
}

func one(host string, port uint32) []endpoint { return []endpoint{{host, port}} }

func TestEnvoyAcceptsTheBootstrap(t *testing.T) {
	t.Parallel()
	envoy, err := FindEnvoy("")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*blueprint){
		"addresses": func(*blueprint) {},
		"names":     func(b *blueprint) { b.grpc, b.api = one("grpc.exeat.example", 1), one("api.exeat.example", 2) },
		"several servers": func(b *blueprint) {
			b.grpc, b.authz = append(b.grpc, endpoint{"127.0.0.2", 1}), append(b.authz, endpoint{"127.0.0.2", 2})
			b.api = append(b.api, endpoint{"api.exeat.example", 3})
		},
		"IPv6": func(b *blueprint) {
			b.grpc, b.egress.ip, b.apiListen.ip = one("::1", 1), net.IPv6loopback, net.IPv6loopback
		},
		"fixed ports": func(b *blueprint) { b.egress.port, b.apiListen.port = 15001, 15002 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := plan(t, t.TempDir())
			change(&b)
			path, err := b.write()
			if err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command(envoy, "--mode", "validate", "-c", path, "--log-level", "warning").CombinedOutput()
			if err != nil || bytes.Contains(bytes.ToLower(out), []byte("deprecated")) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestHostsOfTheAPIListener(t *testing.T) {
	t.Parallel()
	v4, v6 := listenAddress{ip: net.IPv4(127, 0, 0, 1)}, listenAddress{ip: net.IPv6loopback, port: 8080}
	for _, c := range []struct {
		at   listenAddress
		host string
		want bool
	}{
		{v4, "127.0.0.1:5", true},
		{v4, "localhost:65535", true},
		{v4, "127a0b0c1:5", false},
		{v4, "127.0.0.1", false},
		{v4, "[::1]:5", false},
		{v4, "user@localhost:5", false},
		{v6, "[::1]:8080", true},
		{v6, "localhost:8080", true},
		{v6, "[::1]:8081", false},
		{v6, "::1:8080", false},
	} {
		// Envoy matches the whole value.
		if got := regexp.MustCompile("^(?:" + loopbackHost(c.at) + ")$").MatchString(c.host); got != c.want {
			t.Errorf("%s at %s: %v", c.host, c.at, got)
		}
	}
}

func TestEnvoysLinesBecomeOurs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	w := &logWriter{log: slog.New(slog.NewJSONHandler(&out, nil))}
	w.Write([]byte(`{"level":"warning","logger":"config","message":"a \"quoted\" one"}` + "\n" + `{"level":"error","logger":"main","mess`))
	w.Write([]byte(`age":"in two parts"}` + "\n\nnot ours\n" + strings.Repeat("x", 3*maxLogLine) + "\n"))
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		var entry struct{ Level, Message string }
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		got = append(got, entry.Level+" "+entry.Message)
	}
	want := []string{`WARN a "quoted" one`, "ERROR in two parts", "ERROR not ours", "ERROR " + strings.Repeat("x", maxLogLine)}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %.300q", got)
	}
}

func TestTheGateLetsOneProcessPass(t *testing.T) {
	t.Parallel()
	g := &gate{}
	if g.check(0) == nil || g.check(7) == nil {
		t.Error("somebody passed before there was an Envoy")
	}
	if err := g.open(func() (int, error) { return 0, errors.New("no") }); err == nil || g.check(0) == nil {
		t.Error("an Envoy that did not start")
	}
	if err := g.open(func() (int, error) { return 7, nil }); err != nil || g.check(7) != nil || g.check(8) == nil {
		t.Error("the one process")
	}
	g.close()
	if g.check(7) == nil {
		t.Error("it passed after its end")
	}
}

func TestTheJavaTrustStore(t *testing.T) {
	t.Parallel()
	a, err := identity.OpenAuthority(identity.AuthorityConfig{Dir: filepath.Join(t.TempDir(), "a"), TrustDomain: "example.org", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	text := a.BundlePEM()
	store := javaTrustStore(append(text, text...), time.Unix(1, 0))
	block, _ := pem.Decode(text)
	if !bytes.HasPrefix(store, []byte{0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2, 0, 0, 0, 2}) || bytes.Count(store, block.Bytes) != 2 {
		t.Error("it does not hold both certificates")
	}
	sum := storeDigest(store[:len(store)-20])
	if !bytes.HasSuffix(store, sum[:]) {
		t.Error("its checksum is wrong")
	}
}

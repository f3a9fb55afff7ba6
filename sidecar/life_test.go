package sidecar_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/sidecar"
)

// ask makes an ordinary call to the API, and gives the serial number of the
// certificate that Envoy showed.
func ask(t *testing.T, s running, path string) (reply, string) {
	t.Helper()
	address := strings.TrimPrefix(s.API, "http://")
	got, err := raw(t, address, "GET "+path+" HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n\r\n")
	if err != nil {
		return reply{}, ""
	}
	return got, got.header.Get("Serial")
}

func TestEnvoyShowsEachNewSVID(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 2*time.Second)
	s := w.start(t, w.config(t))
	seen := map[string]bool{}
	eventually(t, "three certificates seen", func() bool {
		if got, serial := ask(t, s, "/v1/last"); got.status == 200 {
			seen[serial] = true
		}
		return len(seen) >= 3
	})
}

func TestACrashedEnvoyComesBackOnItsPorts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	s := w.start(t, w.config(t))
	first := envoyPID(t, s.config.RunDir)
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "another Envoy answers", func() bool {
		got, _ := ask(t, s, "/v1/x")
		return got.status == 200 && findEnvoy(s.config.RunDir) != first
	})
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

func TestTheServersMustBeWhoTheyShould(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	// A server of the same trust domain, but not the API.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	c := w.config(t)
	c.API = w.grpc
	s := w.start(t, c)
	got, _ := ask(t, s, "/v1/x")
	if got.status != 503 || !strings.Contains(got.body, `"reason":"state_stale"`) || got.header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("the gRPC server as API: %+v", got)
	}
	if !w.control.saw("spiffe://example.org/sidecar/triage/1") {
		t.Error("the control plane was asked by somebody else")
	}
}

func TestTheAPIBeingAwayIsSaidAsAProblem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := w.config(t)
	c.API = listener.Addr().String()
	listener.Close()
	got, _ := ask(t, w.start(t, c), "/v1/x")
	want := `{"type":"https://exeat.dev/problems/state_stale","title":"Exeat's API cannot be reached","status":503,"reason":"state_stale","retry":"after"}`
	if got.status != 503 || got.body != want {
		t.Errorf("got %+v", got)
	}
}

func TestTheBundleFollowsTheCA(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	s := w.start(t, w.config(t))
	_, wrong := interceptionCA(t, false)
	w.control.set(secretType, "interception-ca", wrong)
	eventually(t, "what is no CA is refused", func() bool { return w.control.rejections() == 1 })
	if text, err := os.ReadFile(s.CAFile); err != nil || !bytes.Equal(text, w.ca) {
		t.Error("what is no CA is in the agent's bundle")
	}
	next, secret := interceptionCA(t, true)
	w.control.set(secretType, "interception-ca", secret)
	eventually(t, "the new CA is in the files", func() bool {
		text, err := os.ReadFile(s.CAFile)
		return err == nil && bytes.Equal(text, next)
	})
	if all, err := os.ReadFile(s.CABundle); err != nil || bytes.Contains(all, w.ca) || !bytes.HasSuffix(all, next) {
		t.Error("the bundle still holds the old CA")
	}
}

func TestRunSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(t *testing.T, w *world, c *sidecar.Config)
		want  string
	}{
		"no Envoy": {func(t *testing.T, _ *world, c *sidecar.Config) { c.Envoy = filepath.Join(t.TempDir(), "envoy") }, "make tools"},
		"an Envoy that is none": {func(t *testing.T, _ *world, c *sidecar.Config) {
			c.Envoy = "/bin/false"
		}, "Envoy ended"},
		"no control plane": {func(t *testing.T, _ *world, c *sidecar.Config) {
			c.GRPC, c.StartTimeout = "127.0.0.1:1", 700*time.Millisecond
		}, "is exeatd running"},
		"no interception CA": {func(t *testing.T, w *world, c *sidecar.Config) {
			w.control.set(secretType, "interception-ca", nil)
			_, none := interceptionCA(t, false)
			w.control.set(secretType, "interception-ca", none)
			c.StartTimeout = 2 * time.Second
		}, "interception CA"},
		"no identity": {func(t *testing.T, w *world, c *sidecar.Config) {
			c.Instance, c.StartTimeout = "spiffe://example.org/sidecar/of-another", 300*time.Millisecond
		}, "no SVID with the wanted SPIFFE ID"},
		"a run folder open to others": {func(t *testing.T, _ *world, c *sidecar.Config) {
			c.RunDir = t.TempDir()
			os.Chmod(c.RunDir, 0o755)
		}, "chmod 700"},
		"a proxy for the whole network": {func(t *testing.T, _ *world, c *sidecar.Config) { c.Egress = "0.0.0.0:0" }, "loopback"},
		"an API in the clear":           {func(t *testing.T, _ *world, c *sidecar.Config) { c.API = "http://127.0.0.1:1" }, "https"},
		"an address without a port":     {func(t *testing.T, _ *world, c *sidecar.Config) { c.GRPC = "127.0.0.1" }, "host:port"},
		"no Workload API":               {func(t *testing.T, _ *world, c *sidecar.Config) { c.WorkloadSocket = "" }, "WorkloadSocket"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 0)
			if _, err := w.authority.Register(identity.Entry{ID: id(t, "/sidecar/triage/1"), PID: os.Getpid()}); err != nil {
				t.Fatal(err)
			}
			config := w.config(t)
			c.spoil(t, w, &config)
			err := sidecar.Run(t.Context(), config, func(sidecar.Status) { t.Error("ready") })
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if findEnvoy(config.RunDir) != 0 {
				t.Error("an Envoy was left behind")
			}
		})
	}
}

func TestRunEndsWithItsContextBeforeItIsReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	if _, err := w.authority.Register(identity.Entry{ID: id(t, "/sidecar/triage/1"), PID: os.Getpid()}); err != nil {
		t.Fatal(err)
	}
	c := w.config(t)
	c.GRPC = "127.0.0.1:1"
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- sidecar.Run(ctx, c, func(sidecar.Status) { t.Error("ready") }) }()
	eventually(t, "Envoy runs", func() bool { return findEnvoy(c.RunDir) != 0 })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if findEnvoy(c.RunDir) != 0 {
		t.Error("Envoy was left behind")
	}
}

func TestEnroll(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	e, err := sidecar.Enroll(t.Context(), w.local, "triage")
	if err != nil {
		t.Fatal(err)
	}
	c := sidecar.Config{API: "https://mine:1"}
	e.Apply(&c)
	if c.Instance != "spiffe://example.org/sidecar/triage/enrolled" || c.GRPC != w.grpc || c.API != "https://mine:1" || c.ClientEnv["KEY"] != "exeat" {
		t.Errorf("got %+v", c)
	}
	if _, err := sidecar.Enroll(t.Context(), w.local, "nobody"); !errors.Is(err, sidecar.ErrEnroll) || !strings.Contains(err.Error(), "The catalog has none") {
		t.Errorf("an unknown agent: %v", err)
	}
	if _, err := sidecar.Enroll(t.Context(), w.local+"-not", "triage"); !errors.Is(err, sidecar.ErrEnroll) || !strings.Contains(err.Error(), "is exeatd running") {
		t.Errorf("nobody there: %v", err)
	}
}

package main

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
)

// smallCatalog has one of each that a start needs.
const smallCatalog = `apiVersion: exeat.dev/v1alpha1
kind: Agent
metadata: {name: reader}
spec:
  spiffeID: spiffe://example.org/agent/reader
  sidecarID: spiffe://example.org/sidecar/reader/{instance}
  owner: {groups: [docs], contact: docs@example.org}
  capabilities: [{name: read-page}]
---
apiVersion: exeat.dev/v1alpha1
kind: Destination
metadata: {name: wiki}
spec: {hosts: [wiki.example.org]}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: read-page}
spec:
  description: Read one page.
  params: {page: {pattern: "[a-z]+"}}
  destination: wiki
  calls: [{method: GET, path: "/${page}"}]
  limits: {ttl: 5m}
`

// output is what a command writes; it is read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// folders makes a catalog of that text and a place for the data.
func folders(t *testing.T, text string) (catalogDir, data string) {
	t.Helper()
	dir := t.TempDir()
	catalogDir, data = filepath.Join(dir, "catalog"), filepath.Join(dir, "data")
	if err := os.Mkdir(catalogDir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(catalogDir, "all.yaml"), text)
	return catalogDir, data
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// exeatd runs the command and returns how it ended.
func exeatd(ctx context.Context, log io.Writer, args ...string) error {
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(log)
	cmd.SetErr(log)
	return cmd.ExecuteContext(ctx)
}

// devArgs serve from these folders on ports that the system gives.
func devArgs(catalogDir, data string, more ...string) []string {
	return append([]string{
		"dev", "--catalog", catalogDir, "--data", data,
		"--api", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0",
	}, more...)
}

// running is an `exeatd dev` in this process.
type running struct {
	t             *testing.T
	catalog, data string
	log           *output
	endpoints     client.Endpoints
	stop          context.CancelFunc // as SIGTERM does
	ended         chan error
}

func startDev(t *testing.T) *running {
	t.Helper()
	r := &running{t: t, log: &output{}, ended: make(chan error, 1)}
	r.catalog, r.data = folders(t, smallCatalog)
	ctx, stop := context.WithCancel(context.Background())
	r.stop = stop
	go func() { r.ended <- exeatd(ctx, r.log, devArgs(r.catalog, r.data)...) }()
	t.Cleanup(func() { stop(); r.wait() })
	r.await("the endpoints", func() (err error) {
		r.endpoints, err = client.ReadEndpoints(r.data)
		return err
	})
	return r
}

// wait gives how it ended, once and again.
func (r *running) wait() error {
	err := <-r.ended
	r.ended <- err
	return err
}

// await asks again until fn has nothing to say.
func (r *running) await(what string, fn func() error) {
	r.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); ; <-tick.C {
		err := fn()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("%s: %v\n%s", what, err, r.log)
		}
	}
}

// get reads a page of the metrics address.
func (r *running) get(path, accept string) (int, string) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), http.MethodGet, r.endpoints.Metrics+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Accept", accept)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// holds reports whether text has each of these.
func holds(text string, parts ...string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}

package e2e

import (
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// fields are request headers.
type fields map[string]string

// agent is an HTTP client that nobody here wrote, as a program uses it.
type agent interface {
	// get sends one request within a task and never tries twice.
	get(t testing.TB, k *stack.Task, url string, headers fields) stack.Reply
	// follow opens an event stream within a task.
	follow(t testing.TB, k *stack.Task, url string) *stream
}

// kind is one way to be an agent.
type kind struct {
	name  string
	proto string // what it speaks within the tunnel; empty where it does not tell
	start func(t testing.TB) agent
	// multiplexed: its calls share a connection with its streams, which a cut
	// takes with it. What it sends before it has seen that is lost, and is not
	// sent again, for it might have been executed.
	multiplexed bool
}

var kinds = []kind{
	{"curl over HTTP/1.1", "HTTP/1.1", func(testing.TB) agent { return curl{"--http1.1"} }, false},
	{"curl over HTTP/2", "HTTP/2", func(testing.TB) agent { return curl{"--http2"} }, false},
	{"requests", "", func(t testing.TB) agent { return startRequests(t) }, false},
	{"Go over HTTP/1.1", "HTTP/1.1", func(testing.TB) agent { return newGoClient(false) }, false},
	{"Go over HTTP/2", "HTTP/2.0", func(testing.TB) agent { return newGoClient(true) }, true},
}

// curl is a process for each request.
type curl struct{ version string }

func (c curl) command(k *stack.Task, url string, headers fields, flags ...string) *exec.Cmd {
	args := append([]string{"-sS", "-N", c.version, "--proxy", k.ProxyURL().String(), "--cacert", k.Sidecar.CABundle}, flags...)
	for name, value := range headers {
		args = append(args, "-H", name+": "+value)
	}
	cmd := exec.Command("curl", append(args, url)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	return cmd
}

func (c curl) get(t testing.TB, k *stack.Task, url string, headers fields) stack.Reply {
	t.Helper()
	return readCurl(c.command(k, url, headers, "--max-time", "60", "-w", curlEnd))
}

// curlEnd is what curl prints after the body: what readCurl reads.
const curlEnd = `\n%{http_code} %{http_version} %{content_type}`

func readCurl(cmd *exec.Cmd) stack.Reply {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	at := bytes.LastIndexByte(out, '\n')
	if err != nil || at < 0 {
		return stack.Reply{Err: &programError{err, stderr.String()}}
	}
	words := strings.Fields(string(out[at+1:]))
	r := stack.Reply{Body: out[:at], Header: http.Header{}, Proto: "HTTP/" + words[1]}
	r.Status, r.Err = strconv.Atoi(words[0])
	if len(words) > 2 {
		r.Header.Set("Content-Type", words[2])
	}
	return r
}

// programError is how a program failed, with what it said.
type programError struct {
	err  error
	said string
}

func (e *programError) Error() string { return strings.TrimSpace(e.err.Error() + ": " + e.said) }

func (c curl) follow(t testing.TB, k *stack.Task, url string) *stream {
	t.Helper()
	cmd := c.command(k, url, nil)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return readEvents(t, out, cmd.Process.Kill, cmd.Wait)
}

// goClient is net/http, with its pools: one client for each task.
type goClient struct {
	http2   bool
	mu      sync.Mutex
	clients map[string]*http.Client
}

func newGoClient(http2 bool) *goClient {
	return &goClient{http2: http2, clients: map[string]*http.Client{}}
}

func (g *goClient) client(t testing.TB, k *stack.Task) *http.Client {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.clients[k.ID]; c != nil {
		return c
	}
	c := k.HTTP(t)
	if !g.http2 {
		transport := c.Transport.(*http.Transport)
		transport.ForceAttemptHTTP2 = false
		transport.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	g.clients[k.ID] = c
	return c
}

func (g *goClient) get(t testing.TB, k *stack.Task, url string, headers fields) stack.Reply {
	t.Helper()
	return stack.Get(t, g.client(t, k), url, func(r *http.Request) {
		for name, value := range headers {
			r.Header.Set(name, value)
		}
	})
}

func (g *goClient) follow(t testing.TB, k *stack.Task, url string) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background()) // it may stay open for as long as the test
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := g.client(t, k).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("the stream is answered with %s", resp.Status)
	}
	return readEvents(t, resp.Body, resp.Body.Close, resp.Body.Close)
}

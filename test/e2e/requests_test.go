package e2e

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

//go:embed agent.py
var agentPy string

// pythonPath is where make tools puts requests.
func pythonPath() string { return filepath.Join(stack.Root(), ".tools", "python") }

// python is a command with requests at hand. Without it the test fails: what
// was not tested must not pass.
func python(t testing.TB, args ...string) *exec.Cmd {
	t.Helper()
	if err := havePython(); err != nil {
		t.Fatalf("Python's requests cannot be used: run 'make tools': %v", err)
	}
	cmd := exec.CommandContext(stack.Context(t), "python3", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PYTHONPATH=" + pythonPath(), "PYTHONDONTWRITEBYTECODE=1"}
	return cmd
}

var havePython = sync.OnceValue(func() error {
	_, err := os.Stat(filepath.Join(pythonPath(), "requests"))
	_, missing := exec.LookPath("python3")
	return errors.Join(err, missing)
})

// requestsAgent is one process with one requests.Session; each stream has a
// process of its own.
type requestsAgent struct {
	in  *json.Encoder
	out *bufio.Reader
}

// order is what agent.py takes.
type order struct {
	Do       string `json:"do"`
	URL      string `json:"url"`
	Headers  fields `json:"headers,omitempty"`
	Proxy    string `json:"proxy,omitempty"`
	CA       string `json:"ca,omitempty"`
	TrustEnv bool   `json:"trust_env"`
}

func startRequests(t testing.TB) *requestsAgent {
	t.Helper()
	cmd := python(t, "-c", agentPy)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent in Python: %v", err)
		}
	})
	return &requestsAgent{in: json.NewEncoder(in), out: bufio.NewReader(out)}
}

func within(k *stack.Task, do, url string, headers fields) order {
	return order{Do: do, URL: url, Headers: headers, Proxy: k.ProxyURL().String(), CA: k.Sidecar.CABundle}
}

func (a *requestsAgent) get(t testing.TB, k *stack.Task, url string, headers fields) stack.Reply {
	t.Helper()
	if err := a.in.Encode(within(k, "get", url, headers)); err != nil {
		t.Fatal(err)
	}
	line, err := a.out.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	return readRequests(line)
}

func readRequests(line []byte) stack.Reply {
	var said struct {
		Status  int
		Body    string
		Headers fields
		Error   string
	}
	if err := json.Unmarshal(line, &said); err != nil {
		return stack.Reply{Err: err}
	}
	if said.Error != "" {
		return stack.Reply{Err: errors.New(said.Error)}
	}
	r := stack.Reply{Status: said.Status, Body: []byte(said.Body), Header: http.Header{}}
	for name, value := range said.Headers {
		r.Header.Set(name, value)
	}
	return r
}

func (a *requestsAgent) follow(t testing.TB, k *stack.Task, url string) *stream {
	t.Helper()
	cmd := python(t, "-c", agentPy)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(in).Encode(within(k, "follow", url, nil)); err != nil {
		t.Fatal(err)
	}
	return readEvents(t, requestsEvents(out), cmd.Process.Kill, func() error { return errors.Join(in.Close(), cmd.Wait()) })
}

// requestsEvents passes on what agent.py says of events until it says that the
// stream is over: the process itself lives on.
func requestsEvents(from io.Reader) io.Reader {
	r, w := io.Pipe()
	go func() {
		lines := bufio.NewScanner(from)
		for lines.Scan() {
			var said struct{ Event, Over, Error string }
			if err := json.Unmarshal(lines.Bytes(), &said); err != nil || said.Over != "" {
				break
			}
			_, _ = io.WriteString(w, said.Event+"\n") // the reader waits for the end
		}
		_ = w.Close()
	}()
	return r
}

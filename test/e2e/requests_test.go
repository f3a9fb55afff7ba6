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
	"time"

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
	cmd := exec.Command("python3", args...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PYTHONPATH=" + pythonPath(), "PYTHONDONTWRITEBYTECODE=1"}
	return cmd
}

var havePython = sync.OnceValue(func() error {
	_, err := os.Stat(filepath.Join(pythonPath(), "requests"))
	_, missing := exec.LookPath("python3")
	return errors.Join(err, missing)
})

// requestsAgent is one process with one requests.Session; each stream has a
// session of its own. Many may use it at once.
type requestsAgent struct {
	mu   sync.Mutex
	in   *json.Encoder
	last int                // order's ID
	told map[int]func(said) // by order
}

// order is what agent.py takes.
type order struct {
	ID      int    `json:"id"`
	Do      string `json:"do"`
	URL     string `json:"url"`
	Headers fields `json:"headers,omitempty"`
	Proxy   string `json:"proxy"`
	CA      string `json:"ca"`
}

// said is what it answers: an event, or the end of the order.
type said struct {
	ID     int
	Event  string
	Status int
	Body   string
	// Headers of the answer; Error when there was none, or it broke off.
	Headers fields
	Error   string
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
	a := &requestsAgent{in: json.NewEncoder(in), told: map[int]func(said){}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.listen(out)
	}()
	t.Cleanup(func() {
		in.Close()
		late := time.AfterFunc(stack.Patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		<-done
		if err := cmd.Wait(); err != nil {
			t.Errorf("the agent in Python: %v", err)
		}
	})
	return a
}

// listen hands on what the process says until it ends.
func (a *requestsAgent) listen(from io.Reader) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s said
		if json.Unmarshal(lines.Bytes(), &s) != nil {
			break
		}
		if told := a.tell(s); told != nil {
			told(s)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, told := range a.told {
		told(said{Error: "the process has ended"})
	}
}

func (a *requestsAgent) tell(s said) func(said) {
	a.mu.Lock()
	defer a.mu.Unlock()
	told := a.told[s.ID]
	if s.Event == "" {
		delete(a.told, s.ID)
	}
	return told
}

// give gives an order; told hears what it leads to.
func (a *requestsAgent) give(t testing.TB, k *stack.Task, do, url string, headers fields, told func(said)) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last++
	a.told[a.last] = told
	o := order{ID: a.last, Do: do, URL: url, Headers: headers, Proxy: k.ProxyURL().String(), CA: k.Sidecar.CABundle}
	if err := a.in.Encode(o); err != nil {
		t.Fatal(err)
	}
}

func (a *requestsAgent) get(t testing.TB, k *stack.Task, url string, headers fields) stack.Reply {
	t.Helper()
	answer := make(chan said, 1)
	a.give(t, k, "get", url, headers, func(s said) { answer <- s })
	select {
	case s := <-answer:
		return s.reply()
	case <-time.After(stack.Patience):
		return stack.Reply{Err: errors.New("the agent in Python does not answer")}
	}
}

func (s said) reply() stack.Reply {
	if s.Error != "" {
		return stack.Reply{Err: errors.New(s.Error)}
	}
	r := stack.Reply{Status: s.Status, Body: []byte(s.Body), Header: http.Header{}}
	for name, value := range s.Headers {
		r.Header.Set(name, value)
	}
	return r
}

func (a *requestsAgent) follow(t testing.TB, k *stack.Task, url string) *stream {
	t.Helper()
	r, w := io.Pipe()
	a.give(t, k, "follow", url, nil, func(s said) {
		if s.Event == "" {
			w.Close()
			return
		}
		_, _ = io.WriteString(w, s.Event+"\n") // nobody listens any more once the test is over
	})
	return readEvents(t, r, r.Close, r.Close)
}

package stack

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/sidecar"
)

// Sidecar is a running exeat-sidecar with its Envoy.
type Sidecar struct {
	sidecar.Status
	RunDir string
	PID    int // exeat-sidecar's
	API    *client.Client
}

// Sidecar starts one for an agent.
func (s *Stack) Sidecar(t testing.TB, agent string) *Sidecar {
	t.Helper()
	return startSidecar(t, &Log{}, func(int) {}, filepath.Join(s.Bin, "exeat-sidecar"), "--agent", agent, "--local-socket", s.Endpoints.LocalSocket)
}

// startSidecar starts one in a folder of its own. started is told its process
// before it can be ready.
func startSidecar(t testing.TB, log *Log, started func(pid int), command string, args ...string) *Sidecar {
	t.Helper()
	dir, err := os.MkdirTemp("", "exeat-test-") // short: Unix sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	ready, report, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	cmd := exec.Command(command, append(args, "--run-dir", dir, "--ready-fd", "3", "--die-with-parent")...)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{report}, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	report.Close()
	t.Cleanup(func() { end(t, cmd, dir, log) })
	started(cmd.Process.Pid)
	line, err := bufio.NewReader(ready).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the sidecar is not ready: %v\n%s", err, log)
	}
	sc := &Sidecar{RunDir: dir, PID: cmd.Process.Pid}
	if err := json.Unmarshal(line, &sc.Status); err != nil {
		t.Fatal(err)
	}
	if sc.API, err = client.New(sc.Status.API); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sc.API.Close)
	return sc
}

// raceExit is how a program ends in which the race detector found a race.
const raceExit = 66

func end(t testing.TB, cmd *exec.Cmd, dir string, log *Log) {
	_ = cmd.Process.Signal(syscall.SIGTERM) // it may have ended with what it served
	late := time.AfterFunc(20*time.Second, func() {
		t.Error("the sidecar did not end when asked")
		_ = cmd.Process.Kill()
	})
	defer late.Stop()
	_ = cmd.Wait()
	if cmd.ProcessState.ExitCode() == raceExit {
		t.Error("the race detector found a race in the sidecar")
	}
	if t.Failed() {
		t.Logf("the sidecar said:\n%s", log)
	}
	os.RemoveAll(dir)
}

// Task is a task on a sidecar; API acts within it.
type Task struct {
	client.Task
	API     *client.Client
	Sidecar *Sidecar
}

// Task starts one.
func (sc *Sidecar) Task(t testing.TB) *Task {
	t.Helper()
	task, err := sc.API.StartTask(Context(t), client.TaskRequest{Type: "test"})
	if err != nil {
		t.Fatalf("start a task: %v", err)
	}
	return &Task{Task: task, API: sc.API.ForTask(task.Credential), Sidecar: sc}
}

// Grant asks for a grant and fails unless it is ready. params are names and
// values by turns.
func (k *Task) Grant(t testing.TB, capability string, ttl time.Duration, params ...string) client.Grant {
	t.Helper()
	r := client.GrantRequest{Task: k.ID, Capability: capability, TTL: ttl, Wait: 30 * time.Second, Params: map[string]string{}}
	for i := 0; i+1 < len(params); i += 2 {
		r.Params[params[i]] = params[i+1]
	}
	g, err := k.API.RequestGrant(Context(t), r)
	if err != nil {
		t.Fatalf("grant of %s: %v", capability, err)
	}
	if !g.Ready {
		t.Fatalf("grant of %s is not ready: %+v", capability, g)
	}
	return g
}

// ReadTicket is the grant to read one ticket of the project OPS.
func (k *Task) ReadTicket(t testing.TB, ticket string) client.Grant {
	t.Helper()
	return k.Grant(t, "read-ticket", 2*time.Minute, "project", "OPS", "ticket", ticket)
}

// Complete ends the task and fails unless the end is enforced.
func (k *Task) Complete(t testing.TB) client.Receipt {
	t.Helper()
	r, err := k.API.CompleteTask(Context(t), k.ID)
	if err != nil {
		t.Fatalf("complete the task: %v", err)
	}
	if !r.Ending.Enforced {
		t.Errorf("the task's end is not enforced: %+v", r.Ending)
	}
	return r
}

// ProxyURL is the sidecar with the task's credential.
func (k *Task) ProxyURL() *url.URL {
	return &url.URL{Scheme: "http", User: url.UserPassword(k.ID, k.Credential.Expose()), Host: k.Sidecar.Proxy}
}

// HTTP is Go's own client through the task's room.
func (k *Task) HTTP(t testing.TB) *http.Client {
	t.Helper()
	return Client(t, k.ProxyURL(), k.Sidecar.CAFile)
}

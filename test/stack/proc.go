package stack

import (
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proc is a process of a test, which may be killed, stopped and started again.
// Whatever it is, it ends with the test.
type Proc struct {
	Name string
	Log  *Log

	command func() *exec.Cmd
	mu      sync.Mutex
	cmd     *exec.Cmd
	exited  chan struct{}
}

// NewProc names a process; command makes it anew for each start.
func NewProc(t testing.TB, name string, command func() *exec.Cmd) *Proc {
	p := &Proc{Name: name, Log: &Log{}, command: command}
	t.Cleanup(func() {
		p.End(t)
		if t.Failed() {
			t.Logf("%s said:\n%s", name, tailOf(p.Log.String()))
		}
	})
	return p
}

// tailOf keeps a log that is shown from hiding everything else.
func tailOf(text string) string {
	const most = 8 << 10
	if len(text) > most {
		return "..." + text[len(text)-most:]
	}
	return text
}

// Start starts it, again if it has ended.
func (p *Proc) Start(t testing.TB) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	cmd, exited := p.command(), make(chan struct{})
	cmd.Stderr = p.Log
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", p.Name, err)
	}
	p.cmd, p.exited = cmd, exited
	go func() {
		_ = cmd.Wait() // whoever waits for exited asks how it ended
		close(exited)
	}()
}

// PID of the process as it was started last.
func (p *Proc) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

// Exited is closed when it has ended.
func (p *Proc) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exited
}

// Running reports whether it was started and has not ended.
func (p *Proc) Running() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (p *Proc) signal(s os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(s) // it may have ended
}

// Kill is kill -9; it returns when the process is gone.
func (p *Proc) Kill() {
	p.signal(syscall.SIGKILL)
	<-p.Exited()
}

// Stop is SIGSTOP: alive for whoever looks, and silent.
func (p *Proc) Stop() { p.signal(syscall.SIGSTOP) }

// Continue is SIGCONT.
func (p *Proc) Continue() { p.signal(syscall.SIGCONT) }

// End asks it to end, and kills it when it does not.
func (p *Proc) End(t testing.TB) {
	t.Helper()
	if !p.Running() {
		return
	}
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.Exited():
	case <-time.After(20 * time.Second):
		t.Errorf("%s did not end when asked", p.Name)
		p.Kill()
	}
}

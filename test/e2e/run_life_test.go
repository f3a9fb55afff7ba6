package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

// operator is the API for the person who runs exeatd.
func operator(t testing.TB, st *stack.Stack) *client.Client {
	t.Helper()
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	return op
}

// wantTask fails unless the task ended for that reason.
func wantTask(t testing.TB, op *client.Client, id, reason string) {
	t.Helper()
	task, err := op.Task(stack.Context(t), strings.TrimSpace(id))
	if err != nil || task.State != "ended" || task.EndReason != reason {
		t.Errorf("the task is %s %s %v, want it ended as %s", task.State, task.EndReason, err, reason)
	}
}

// runEndsAsItsCommand: with its exit code, and the task with it.
func runEndsAsItsCommand(t *testing.T, st *stack.Stack) {
	t.Parallel()
	op := operator(t, st)
	for name, c := range map[string]struct {
		script, reason string
		code           int
	}{
		"well":            {"", "completed", 0},
		"with a code":     {"exit 3", "failed", 3},
		"killed":          {"kill -KILL $$", "failed", 128 + 9},
		"ended by itself": {"exeat-no-such-program", "failed", 127},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, code := run(t, st, nil, "--agent", "triage", "--", "sh", "-c", `echo "$EXEAT_TASK"; `+c.script)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			wantTask(t, op, r.out.String(), c.reason)
			if got := r.receipt(); !strings.HasPrefix(got, strings.TrimSpace(r.out.String())+" "+c.reason+", enforced in ") ||
				!strings.Contains(got, "no call came through the sidecar") || !strings.Contains(got, "0 minted") {
				t.Errorf("the receipt says %s", got)
			}
		})
	}
	for name, c := range map[string]struct {
		command, want string
		code          int
	}{
		"is not there":       {"exeat-no-such-program", "exeat-no-such-program", 127},
		"has no such path":   {"/exeat/no/such/program", "/exeat/no/such/program", 127},
		"cannot be executed": {filepath.Join(st.Data, "ca.pem"), "permission denied", 126},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, code := run(t, st, nil, "--agent", "triage", "--", c.command)
			if code != c.code || !strings.Contains(r.err.String(), "exeat: run "+c.command+": ") || !strings.Contains(r.err.String(), c.want) {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			id, _, _ := strings.Cut(r.receipt(), " ")
			wantTask(t, op, id, "failed")
		})
	}
}

// runRefused: what cannot be granted is told, and the command is not run.
func runRefused(t *testing.T, st *stack.Stack) {
	t.Parallel()
	for name, c := range map[string]struct {
		flags []string
		code  int
		want  []string
	}{
		"another's capability":   {[]string{"--agent", "triage", "--grant", "read-page:page=home"}, 120, []string{"grant of read-page refused", "not eligible"}},
		"parameters of others":   {[]string{"--agent", "triage", "--grant", "read-ticket:project=FIN,ticket=FIN-1"}, 120, []string{"refused", "project"}},
		"a parameter is missing": {[]string{"--agent", "triage", "--grant", "read-ticket:project=OPS"}, 120, []string{"refused", "ticket"}},
		"the second of two": {[]string{"--agent", "triage", "--grant", "watch-ticket:ticket=OPS-1", "--grant", "read-page:page=home"}, 120,
			[]string{"grant of read-page refused", "watch-ticket", "1 minted"}},
		"a flag that is none": {[]string{"--agent", "triage", "--grant", "read-ticket:"}, 125, []string{"want CAPABILITY:param=value"}},
		"no such agent":       {[]string{"--agent", "nobody"}, 125, []string{"the name of an agent in the catalog"}},
		"no exeatd":           {[]string{"--agent", "triage", "--data", t.TempDir()}, 125, []string{"start `exeatd dev"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ran := filepath.Join(t.TempDir(), "ran")
			r, code := run(t, st, nil, append(c.flags, "--", "touch", ran)...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			for _, want := range c.want {
				if !strings.Contains(r.err.String(), want) {
					t.Errorf("it does not say %q", want)
				}
			}
			if _, err := os.Stat(ran); !os.IsNotExist(err) {
				t.Errorf("the command was run: %v", err)
			}
		})
	}
}

// runPassesStreamsAndSignals on, unchanged.
func runPassesStreamsAndSignals(t *testing.T, st *stack.Stack) {
	t.Parallel()
	op := operator(t, st)
	t.Run("streams", func(t *testing.T) {
		t.Parallel()
		r := start(t, st, nil, "--agent", "triage", "--quiet", "--", "sh", "-c", "cat; echo to the error >&2")
		every := make([]byte, 1<<16)
		for i := range every {
			every[i] = byte(i)
		}
		if _, err := r.in.Write(every); err != nil {
			t.Fatal(err)
		}
		if code := r.wait(t); code != 0 || r.out.String() != string(every) || r.err.String() != "to the error\n" {
			t.Errorf("exit code %d, %d bytes of %d, %q", code, len(r.out.String()), len(every), r.err)
		}
	})
	t.Run("signals", func(t *testing.T) {
		t.Parallel()
		self, role := program(t, "hold")
		r := start(t, st, role, "--agent", "triage", "--quiet", "--", self)
		r.awaitOut(t, "holding t_")
		for _, s := range []syscall.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGINT, syscall.SIGTERM} {
			if err := r.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			r.awaitOut(t, s.String())
		}
		if code := r.wait(t); code != 7 {
			t.Errorf("exit code %d, want the program's own, 7", code)
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(r.out.String(), "holding "), "\n")
		wantTask(t, op, id, "failed")
	})
	t.Run("stop and go on", func(t *testing.T) {
		t.Parallel()
		r, pids := holding(t, st)
		stopped := func(pid int, want bool) {
			t.Helper()
			stack.Await(t, "a process stopped or going on", func() bool { return (stack.State(pid) == "T") == want })
		}
		for _, step := range []struct {
			signal  syscall.Signal
			stopped bool
		}{{syscall.SIGTSTP, true}, {syscall.SIGCONT, false}} {
			if err := r.Process.Signal(step.signal); err != nil {
				t.Fatal(err)
			}
			stopped(r.Process.Pid, step.stopped)
			stopped(pids.command, step.stopped)
		}
		if code := r.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// below are the processes below an exeat run.
type below struct{ command, sidecar, envoy int }

func (b below) all() []int { return []int{b.command, b.sidecar, b.envoy} }

// holding starts a command that holds until its input or SIGTERM ends it.
func holding(t *testing.T, st *stack.Stack) (*running, below) {
	t.Helper()
	self, role := program(t, "hold")
	r := start(t, st, role, "--agent", "triage", "--grant", "read-ticket:project=OPS,ticket=OPS-1", "--", self)
	r.awaitOut(t, "holding")
	pids := stack.Children(t, r.Process.Pid)
	named := func(name string) int {
		for _, pid := range pids {
			if program, _, _ := strings.Cut(stack.Command(pid), " "); filepath.Base(program) == name {
				return pid
			}
		}
		t.Fatalf("no %s runs below exeat", name)
		return 0
	}
	return r, below{command: named(filepath.Base(self)), sidecar: named("exeat-sidecar"), envoy: named("envoy")}
}

// runLeavesNoProcessBehind, however it ends.
func runLeavesNoProcessBehind(t *testing.T, st *stack.Stack) {
	t.Parallel()
	none := func(t *testing.T, pids []int) {
		for _, pid := range pids {
			if c := stack.Command(pid); c != "" {
				t.Errorf("after exeat, there still is: %s", c)
			}
		}
	}
	t.Run("when the command ends", func(t *testing.T) {
		t.Parallel()
		r, pids := holding(t, st)
		if code := r.wait(t); code != 0 {
			t.Errorf("exit code %d", code)
		}
		none(t, pids.all())
	})
	t.Run("when it is asked to end", func(t *testing.T) {
		t.Parallel()
		r, pids := holding(t, st)
		if err := r.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		r.awaitOut(t, syscall.SIGTERM.String())
		if code := r.wait(t); code != 7 {
			t.Errorf("exit code %d", code)
		}
		none(t, pids.all())
	})
	t.Run("when it is killed", func(t *testing.T) {
		t.Parallel()
		r, pids := holding(t, st)
		r.kill(t)
		stack.AwaitGone(t, pids.all())
	})
	t.Run("when its sidecar is killed", func(t *testing.T) {
		t.Parallel()
		r, pids := holding(t, st)
		if err := syscall.Kill(pids.sidecar, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if code := r.wait(t); code != 0 || !strings.Contains(r.err.String(), "the task could not be ended") {
			t.Errorf("exit code %d, or it is not told that the task goes on", code)
		}
		none(t, pids.all())
	})
}

// TestRunInterruptedBeforeItsCommand: exeatd hangs, somebody gives up.
func TestRunInterruptedBeforeItsCommand(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	if err := syscall.Kill(st.PID(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(st.PID(), syscall.SIGCONT) })
	ran := filepath.Join(t.TempDir(), "ran")
	r := start(t, st, nil, "--agent", "triage", "--", "touch", ran)
	stack.Await(t, "the sidecar", func() bool { return len(stack.Children(t, r.Process.Pid)) > 0 })
	if err := r.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(t); code != 125 {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(ran); !os.IsNotExist(err) {
		t.Errorf("the command was run: %v", err)
	}
}

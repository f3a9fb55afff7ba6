package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// TestExeatRun is everything about exeat run that goes on beside other runs, on
// one exeatd.
func TestExeatRun(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	for name, story := range map[string]func(*testing.T, *stack.Stack){
		"ordinary programs":             runOrdinaryPrograms,
		"gives what programs read":      runGivesWhatProgramsRead,
		"shows denials live":            runShowsDenialsLive,
		"quiet":                         runQuiet,
		"ends as its command":           runEndsAsItsCommand,
		"refused":                       runRefused,
		"passes streams and signals on": runPassesStreamsAndSignals,
		"leaves no process behind":      runLeavesNoProcessBehind,
	} {
		t.Run(name, func(t *testing.T) { story(t, st) })
	}
}

// running is an exeat run that was started.
type running struct {
	*exec.Cmd
	in       io.WriteCloser // the command's standard input
	out, err *stack.Log     // its standard output, and its error with what exeat says
	dir      string         // TMPDIR: whatever is kept while it runs lies below
}

// start starts exeat run with arguments, and further variables NAME=value in
// its environment, which is otherwise an almost empty one. When the test ends,
// nothing of it may be left.
func start(t testing.TB, st *stack.Stack, vars []string, args ...string) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "exeat-e2e-") // short: Unix sockets lie in it
	if err != nil {
		t.Fatal(err)
	}
	r := &running{Cmd: st.Exeat(stack.Context(t), append([]string{"run"}, args...)...), out: &stack.Log{}, err: &stack.Log{}, dir: dir}
	r.Env = append([]string{
		"PATH=" + st.Bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TMPDIR=" + dir, "EXEAT_DATA=" + st.Data,
		"EXEAT_ENVOY=" + os.Getenv("EXEAT_ENVOY"), "GIT_CONFIG_NOSYSTEM=1",
		"PYTHONPATH=" + pythonPath(), "PYTHONDONTWRITEBYTECODE=1",
	}, vars...)
	r.Stdout, r.Stderr = r.out, r.err
	// A process group of its own, as a shell gives a job: in one whose parents are
	// all gone or in it, no SIGTSTP stops anybody (POSIX, section 2.4.3).
	r.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if r.in, err = r.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if r.ProcessState == nil {
			_ = r.Process.Kill() // it may have ended
			_ = r.Wait()
		}
		r.leavesNothing(t)
		if t.Failed() {
			t.Logf("%s\nprinted:\n%s\nand said:\n%s", r.Cmd, r.out, r.err)
		}
		os.RemoveAll(dir)
	})
	return r
}

// wait closes the command's input, unless that was done, and returns exeat's
// exit code.
func (r *running) wait(t testing.TB) int {
	t.Helper()
	r.in.Close()
	if err := r.Wait(); r.ProcessState == nil || !r.ProcessState.Exited() {
		t.Fatalf("exeat run did not end by itself: %v\n%s", err, r.err)
	}
	return r.ProcessState.ExitCode()
}

// awaitOut returns once the command has printed text.
func (r *running) awaitOut(t testing.TB, text string) { r.await(t, r.out, text) }

// awaitErr returns once the command or exeat has said text.
func (r *running) awaitErr(t testing.TB, text string) { r.await(t, r.err, text) }

func (r *running) await(t testing.TB, log *stack.Log, text string) {
	t.Helper()
	there := func() bool { return strings.Contains(log.String(), text) }
	stack.Await(t, "the words "+text, func() bool { return there() || stack.State(r.Process.Pid) == "Z" })
	if !there() {
		t.Fatalf("exeat ended without the words %s", text)
	}
}

// leavesNothing: neither a process nor a file.
func (r *running) leavesNothing(t testing.TB) {
	t.Helper()
	stack.Await(t, "the end of every process under "+r.dir, func() bool { return len(mentioning(t, r.dir)) == 0 })
	files, err := os.ReadDir(r.dir)
	if err != nil || len(files) > 0 {
		t.Errorf("left behind: %v %v", files, err)
	}
}

// mentioning lists the processes that have text on their command line or in
// their environment.
func mentioning(t testing.TB, text string) []string {
	t.Helper()
	var out []string
	for _, file := range []string{"cmdline", "environ"} {
		names, err := filepath.Glob("/proc/[0-9]*/" + file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			// A process that has ended, or is another user's, is none of ours.
			if b, err := os.ReadFile(name); err == nil && bytes.Contains(b, []byte(text)) {
				out = append(out, filepath.Dir(name))
			}
		}
	}
	return out
}

// run is start and wait.
func run(t testing.TB, st *stack.Stack, vars []string, args ...string) (*running, int) {
	t.Helper()
	r := start(t, st, vars, args...)
	return r, r.wait(t)
}

// program is this test's own binary as one of its programs.
func program(t testing.TB, role string) (path string, vars []string) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path, []string{envRole + "=" + role}
}

// receipt is what exeat says of the task at the end; empty when there is none.
func (r *running) receipt() string {
	_, rest, _ := strings.Cut(r.err.String(), "exeat: task ")
	return rest
}

// kill ends exeat as a crash would, and returns once it is gone.
func (r *running) kill(t testing.TB) {
	t.Helper()
	if err := r.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = r.Wait() // it was killed, and says so
}

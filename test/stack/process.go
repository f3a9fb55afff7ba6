package stack

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Children are the processes whose parent is pid, and theirs.
func Children(t testing.TB, pid int) []int {
	t.Helper()
	var out []int
	// One file for each thread; a child belongs to the thread that made it.
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				out = append(append(out, child), Children(t, child)...)
			}
		}
	}
	return out
}

// Command is a process's command line; empty when it is gone, or a zombie.
func Command(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}

// State is a process's: R, S, T when a signal has stopped it, Z when it has ended
// and nobody has asked how (proc(5), stat); empty when it is gone.
func State(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	_, after, _ := strings.Cut(string(b), ") ") // the name may hold anything else
	state, _, _ := strings.Cut(after, " ")
	return state
}

// AwaitGone returns once none of the processes runs any more.
func AwaitGone(t testing.TB, pids []int) {
	t.Helper()
	Await(t, fmt.Sprintf("the end of the processes %v", pids), func() bool {
		return !slices.ContainsFunc(pids, func(pid int) bool { return Command(pid) != "" })
	})
}

// Freeze stops a process and returns once none of its threads runs: the signal
// alone returns before that. The function returned has it go on.
func Freeze(t testing.TB, pid int) (thaw func()) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	thaw = func() { once.Do(func() { _ = syscall.Kill(pid, syscall.SIGCONT) }) } // it may be gone
	t.Cleanup(thaw)
	Await(t, fmt.Sprintf("the process %d to stand still", pid), func() bool {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
		return err == nil && len(threads) > 0 && !slices.ContainsFunc(threads, runs)
	})
	return thaw
}

// runs reads a thread's status; one that is gone does not run.
func runs(status string) bool {
	b, err := os.ReadFile(status)
	return err == nil && !strings.Contains(string(b), "State:\tT")
}

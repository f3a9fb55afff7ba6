package sidecar

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

// childAttributes: a process group of its own, so that a terminal's signals
// reach Envoy only through us, and death with the thread that started it.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// confine sets the limits of a process that has just started: no core dump, for
// it would hold keys and credentials, and as many files as it may have. Failing
// is no reason to stop: both are bounds that the system set otherwise.
func confine(pid int) {
	none := unix.Rlimit{}
	_ = unix.Prlimit(pid, unix.RLIMIT_CORE, &none, nil)
	var files unix.Rlimit
	if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &files) == nil {
		files.Cur = files.Max
		_ = unix.Prlimit(pid, unix.RLIMIT_NOFILE, &files, nil)
	}
}

// signalGroup signals Envoy and whatever it may have started.
func signalGroup(pid int, hard bool) {
	sig := syscall.SIGTERM
	if hard {
		sig = syscall.SIGKILL
	}
	_ = syscall.Kill(-pid, sig) // it may have ended by now
}

// reap waits until a child has ended, calls gone while its PID is still its own,
// and then lets the system have it back.
func reap(cmd *exec.Cmd, gone func()) error {
	for errors.Is(unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil), unix.EINTR) {
	}
	gone()
	return cmd.Wait()
}

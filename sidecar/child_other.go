//go:build !linux

package sidecar

import (
	"os/exec"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func confine(int) {}

func signalGroup(pid int, hard bool) {
	sig := syscall.SIGTERM
	if hard {
		sig = syscall.SIGKILL
	}
	_ = syscall.Kill(-pid, sig) // it may have ended by now
}

func reap(cmd *exec.Cmd, gone func()) error {
	defer gone()
	return cmd.Wait()
}

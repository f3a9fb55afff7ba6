package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// harden keeps this process's memory, with the identity's key in it, to itself:
// no core dump, and no other process of the same user may read or trace it.
// Failing to is no reason not to serve.
func harden() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

// dieWithParent has the kernel end this process when its parent does. The
// parent may have ended before it was asked, and then nobody would tell.
func dieWithParent() error {
	parent := os.Getppid()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGTERM), 0, 0, 0); err != nil {
		return fmt.Errorf("--die-with-parent: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("--die-with-parent: the parent has ended")
	}
	return nil
}

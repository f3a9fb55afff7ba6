package stack

import "syscall"

// dieWithParent ends a process with this one: nothing outlives the test binary.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }

package main

import "syscall"

// endWithUs has the kernel ask the command to end if exeat is killed: an agent
// does not outlive the sidecar that its calls go through.
func endWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM} }

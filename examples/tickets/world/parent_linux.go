package world

import "syscall"

// dieWithParent puts exeatd into a group of its own and ends it with us.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

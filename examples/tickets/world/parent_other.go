//go:build !linux

package world

import "syscall"

// dieWithParent puts exeatd into a group of its own; only Linux can end it with
// us.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

//go:build !linux

package main

import "syscall"

// endWithUs does nothing: only Linux tells a process of its parent's death.
func endWithUs() *syscall.SysProcAttr { return nil }

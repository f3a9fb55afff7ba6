package main

import "golang.org/x/sys/unix"

// harden keeps this process's memory, with the keys that mint and intercept in
// it, to itself: no core dump, and no other process of the same user may read
// or trace it. Failing to is no reason not to serve.
func harden() {
	_ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{})
	_ = unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)
}

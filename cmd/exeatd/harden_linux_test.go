package main

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestItsMemoryIsItsOwn(t *testing.T) {
	t.Parallel()
	harden()
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil || core.Cur != 0 || core.Max != 0 {
		t.Errorf("core dumps of %d to %d bytes, %v", core.Cur, core.Max, err)
	}
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil || dumpable != 0 {
		t.Errorf("dumpable %d, %v", dumpable, err)
	}
}

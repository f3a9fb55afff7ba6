package identity_test

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/exeat-dev/exeat/identity"
)

func TestAZombieIsNoWorkload(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	// WNOWAIT: it has ended, and is still there to be looked at.
	if err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
	a := open(t, folder(t), 0)
	if _, err := a.Register(identity.Entry{ID: mustID(t, "/agent/1"), PID: cmd.Process.Pid}); err == nil {
		t.Error("a process that has ended was registered")
	}
}

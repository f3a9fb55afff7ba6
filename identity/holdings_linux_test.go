package identity

import (
	"errors"
	"log/slog"
	"os/exec"
	"path/filepath"
	"testing"
)

func TestADeadProcessHoldsNothing(t *testing.T) {
	t.Parallel()
	a, err := OpenAuthority(AuthorityConfig{Dir: filepath.Join(t.TempDir(), "d"), TrustDomain: "example.org", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("cat")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := ParseID("spiffe://example.org/agent/1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Register(Entry{ID: id, PID: cmd.Process.Pid}); err != nil {
		t.Fatal(err)
	}
	p, err := processOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := a.holdings(p); err != nil {
		t.Errorf("while it runs: %v", err)
	}
	// A later process with the same PID differs by its start time alone.
	if _, _, err := a.holdings(process{pid: p.pid, start: p.start + 1}); !errors.Is(err, errNoIdentity) {
		t.Errorf("another process with its PID: %v", err)
	}
	in.Close()
	cmd.Wait()
	// A child that inherited the connection would ask in its name.
	if _, _, err := a.holdings(p); !errors.Is(err, errNoIdentity) {
		t.Errorf("after its end: %v", err)
	}
	if _, err := a.Register(Entry{ID: id, PID: p.pid}); err == nil {
		t.Error("registered after its end")
	}
	if err := a.entries[0].process.verify(); err == nil {
		t.Error("the entry of a dead process counts as running")
	}
}

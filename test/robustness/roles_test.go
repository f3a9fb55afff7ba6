package robustness

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/test/stack"
)

// staleness of the clusters here: room enough for a busy machine.
const staleness = 2 * time.Second

// A grant works end to end where each role is a process of its own, and no
// process can read a key that is not its role's.
func TestEachRoleInAProcessOfItsOwn(t *testing.T) {
	t.Parallel()
	c := stack.StartCluster(t, stack.ClusterOptions{Members: 1, Roles: []string{"api", "xds", "authz"}, Staleness: staleness})
	task := c.Sidecar(t, "triage", "one").Task(t)
	task.ReadTicket(t, "OPS-1")
	stack.WantOK(t, stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-1"))
	stack.WantDenied(t, stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-2"), "call_not_granted")
	if seen := c.Mirror.Seen(); len(seen) != 1 || !strings.HasPrefix(seen[0].Header.Get("Authorization"), "Bearer ey") {
		t.Errorf("the upstream saw %+v", seen)
	}
	if r := task.Complete(t); r.Ending.Waiting != "" {
		t.Errorf("the end waits for %s", r.Ending.Waiting)
	}
	if r := stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-1"); r.Err == nil && r.Status < 400 {
		t.Errorf("after the task a call got %d", r.Status)
	}
	if n := len(c.Mirror.Seen()); n != 1 {
		t.Errorf("the upstream saw %d calls, want the one that was granted", n)
	}
}

// What a process never opens it cannot give away: each role runs where the
// other's key file does not even exist.
func TestAProcessOpensNoKeyButItsRoles(t *testing.T) {
	t.Parallel()
	c := stack.StartCluster(t, stack.ClusterOptions{Members: 1, Roles: []string{"api", "xds", "authz"}, Staleness: staleness})
	keys := map[string]string{"authz": filepath.Join(c.Dir, "keys", "authz.key"), "xds": filepath.Join(c.Dir, "keys", "xds.key")}
	for _, e := range c.Exeatds {
		for role, key := range keys {
			if e.Has(role) {
				continue
			}
			restartWithout(t, e, key)
		}
	}
}

// restartWithout starts the process again while the key is away.
func restartWithout(t *testing.T, e *stack.Exeatd, key string) {
	t.Helper()
	e.Kill()
	if err := os.Rename(key, key+".away"); err != nil {
		t.Fatal(err)
	}
	e.Start(t)
	e.AwaitReady(t)
	if err := os.Rename(key+".away", key); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(e.Log.String(), filepath.Base(key)); n > 0 {
		t.Errorf("%s speaks of %s %d times", e.Name, filepath.Base(key), n)
	}
}

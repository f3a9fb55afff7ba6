package robustness

import (
	"net/http"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// A process that lost the store, and nobody else, gives its sidecars away: they
// go on with one that follows it. What it answers meanwhile is no.
func TestASidecarLeavesAProcessThatLostTheStore(t *testing.T) {
	t.Parallel()
	c := stack.StartCluster(t, stack.ClusterOptions{Members: 1, Roles: []string{"api", "xds,authz", "xds,authz"}, Staleness: staleness})
	s := c.Sidecar(t, "triage", "one")
	task := s.Task(t)
	task.ReadTicket(t, "OPS-1")
	for _, lost := range c.Of("xds") { // one of them has the sidecar
		for _, l := range lost.Stores {
			l.Hold()
		}
		stack.Await(t, lost.Name+" to know that it lost the store", func() bool { return !lost.Ready() })
		wantRecovered(t, s)
		// Until the sidecar has noticed, some calls may still ask the lost one: it
		// denies them, and no ungranted call is ever let out.
		stack.Await(t, "a call by way of the other process", func() bool {
			return stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-1").Status == http.StatusOK
		})
		stack.Await(t, "a denial by the other process", func() bool {
			r := stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-2")
			if r.Err == nil && r.Status == http.StatusOK {
				t.Fatal("a call that is not granted was let out")
			}
			return r.Denial().Reason == "call_not_granted"
		})
		for _, l := range lost.Stores {
			l.Heal()
		}
		lost.AwaitReady(t)
	}
}

package robustness

import (
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
		stack.WantOK(t, stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-1"))
		stack.WantDenied(t, stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-2"), "call_not_granted")
		for _, l := range lost.Stores {
			l.Heal()
		}
		lost.AwaitReady(t)
	}
}

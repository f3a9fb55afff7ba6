package e2e

import (
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// onCallCatalog lets the agent's calls ask for what is harmless.
const onCallCatalog = `
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: read-any-ticket}
spec:
  params: {ticket: {pattern: "[A-Z]+-[0-9]+"}}
  destination: tickets
  calls: [{method: GET, path: "/v1/tickets/${ticket}"}]
  credential: {provider: tickets-jwt, scope: {scope: "ticket:read", ticket: "${ticket}"}}
  limits: {ttl: 1m}
  onCall: true
---
apiVersion: exeat.dev/v1alpha1
kind: Agent
metadata: {name: unmodified}
spec:
  spiffeID: spiffe://example.org/agent/unmodified
  sidecarID: spiffe://example.org/sidecar/unmodified/{instance}
  owner: {groups: [support-platform], contact: support-platform@example.org}
  capabilities: [{name: read-any-ticket}]
`

// TestAnUnmodifiedAgent knows nothing of Exeat: its first call gets the grant,
// and proceeds. What was revoked does not come back by itself.
func TestAnUnmodifiedAgent(t *testing.T) {
	t.Parallel()
	st := stack.StartWith(t, map[string]string{"oncall.yaml": onCallCatalog})
	sc := st.Sidecar(t, "unmodified")
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	for _, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			a, k := kind.start(t), sc.Task(t)
			for range 3 {
				stack.WantOK(t, a.get(t, k, stack.Tickets+"OPS-1", nil))
			}
			stack.WantOK(t, a.get(t, k, stack.Tickets+"OPS-2", nil))
			task, err := op.Task(stack.Context(t), k.ID)
			if err != nil {
				t.Fatal(err)
			}
			if len(task.Grants) != 2 {
				t.Fatalf("%d grants for two tickets: %+v", len(task.Grants), task.Grants)
			}
			for _, g := range task.Grants {
				if _, err := op.RevokeGrant(stack.Context(t), g.ID); err != nil {
					t.Fatal(err)
				}
			}
			stack.WantDenied(t, a.get(t, k, stack.Tickets+"OPS-1", nil), "grant_ended")
			// Others of its kind go on asking.
			stack.WantOK(t, a.get(t, k, stack.Tickets+"OPS-3", nil))
			k.Complete(t)
		})
	}
}

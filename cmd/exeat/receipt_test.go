package main

import (
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
)

func TestReceiptSaysWhatATaskHeldAndDid(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for name, c := range map[string]struct {
		receipt   client.Receipt
		want, not []string
	}{
		"a task that did something": {client.Receipt{
			Task:        client.Task{ID: "t_1", EndReason: "completed"},
			Ending:      client.Ending{Enforced: true, AcceptedAt: at, EnforcedAt: at.Add(12 * time.Millisecond)},
			Grants:      []client.Grant{{Capability: "read-ticket", Params: map[string]string{"ticket": "OPS-1", "project": "OPS"}, RequestedAt: at, Until: at.Add(time.Minute), EndReason: "expired"}},
			Calls:       client.Calls{Allowed: 3, Denied: map[string]int{"no_grant": 1, "call_not_granted": 2}},
			Credentials: client.Credentials{Minted: 2, ExpiresOnly: 1, Revoked: 1},
		}, []string{
			"exeat: task t_1 completed, enforced in 12 ms\n", "read-ticket  project=OPS ticket=OPS-1  -     12:00:00  12:01:00  expired",
			"3 allowed, 3 denied (call_not_granted 2, no_grant 1)", "2 minted, 1 revoked, 1 end by expiry",
		}, []string{"no call came"}},
		"a task that did nothing": {
			client.Receipt{Task: client.Task{ID: "t_1", EndReason: "failed"}},
			[]string{"exeat: task t_1 failed\n", "no call came through the sidecar", "0 minted\n"}, []string{"GRANT", "allowed"},
		},
		"an ending that is not confirmed": {
			client.Receipt{Task: client.Task{ID: "t_1", EndReason: "completed"}, Ending: client.Ending{Waiting: "sidecar", BoundAt: at}},
			[]string{"accepted; not confirmed (sidecar), holds by 12:00:00 at the latest"}, []string{"enforced in"},
		},
		"a standing secret": {
			client.Receipt{Task: client.Task{ID: "t_1"}, Credentials: client.Credentials{Injected: 1, Unsupported: 2}},
			[]string{"1 injected (standing secrets), 2 cannot be revoked"}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			printReceipt(&out, c.receipt)
			for _, w := range c.want {
				if !strings.Contains(out.String(), w) {
					t.Errorf("%q is not in\n%s", w, &out)
				}
			}
			for _, n := range c.not {
				if strings.Contains(out.String(), n) {
					t.Errorf("%q is in\n%s", n, &out)
				}
			}
		})
	}
}

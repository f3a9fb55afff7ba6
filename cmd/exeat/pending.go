package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/exeat-dev/exeat/client"
)

// pollApproval is how long each look at a pending grant is held.
const pollApproval = 45 * time.Second

// decided waits until people have decided on a grant, and then until it is ready
// or has ended. It says where to decide.
func decided(ctx context.Context, api *client.Client, g client.Grant, out io.Writer) (client.Grant, error) {
	if g.State != "pending" {
		return g, nil
	}
	fmt.Fprintf(out, "exeat: %s waits for people until %s: exeat approvals show %s\n", g.Capability, clock(g.Until), g.Approval)
	for g.State == "pending" {
		var err error
		if g, err = api.GetGrant(ctx, g.ID, pollApproval); err != nil {
			return g, err
		}
	}
	if g.State == "active" && !g.Ready {
		return api.GetGrant(ctx, g.ID, readyWait)
	}
	return g, nil
}

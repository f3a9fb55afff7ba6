package client_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/exeat-dev/exeat/client"
)

// An agent under `exeat run` asks for what it needs next.
func Example() {
	ctx := context.Background()
	c, err := client.FromEnv()
	if err != nil {
		fmt.Println(err)
		return
	}
	g, err := c.RequestGrant(ctx, client.GrantRequest{
		Task: os.Getenv(client.EnvTask), Capability: "read-ticket",
		Params: map[string]string{"ticket": "OPS-42"}, Wait: 30 * time.Second,
	})
	var problem *client.Problem
	switch {
	case errors.As(err, &problem) && problem.Refused():
		fmt.Println("refused:", problem.Detail)
	case err != nil:
		fmt.Println("failed:", err)
	case !g.Ready:
		fmt.Println("not yet:", g.Detail)
	default:
		fmt.Println("the next call succeeds, until", g.Until)
	}
	// Output: client: EXEAT_URL is not set; run this under `exeat run`
}

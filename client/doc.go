// Package client speaks to Exeat's HTTP API.
//
// An agent reaches it at EXEAT_URL, a loopback address of its own sidecar,
// which shows its certificate on the agent's behalf:
//
//	c, err := client.FromEnv()
//	g, err := c.RequestGrant(ctx, client.GrantRequest{
//		Task: os.Getenv("EXEAT_TASK"), Capability: "read-ticket",
//		Params: map[string]string{"ticket": "OPS-42"}, Wait: 30 * time.Second,
//	})
//	if g.Ready { ... } // the very next call under the grant succeeds
//
// An operator reaches it at the Unix socket of the exeatd that they run, with
// NewLocal. Failures that the API explains are *Problem; tell them apart by
// Code. Nothing is retried: the reply to a change may be lost after the change
// was made, and then reading it again shows it.
package client

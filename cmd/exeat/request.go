package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

// requestCommand is for use inside `exeat run`: it asks for one more grant of
// the task that it runs in.
func requestCommand() *cobra.Command {
	var ttl time.Duration
	var uses int64
	cmd := &cobra.Command{
		Use:   "request CAPABILITY[:param=value,...]",
		Short: "Inside exeat run: ask for one more grant, and wait until it is ready",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			spec, err := parseGrant(args[0])
			if err != nil {
				return err
			}
			api, err := client.FromEnv()
			if err != nil {
				return err
			}
			task := client.Task{ID: os.Getenv(client.EnvTask)}
			g, err := api.RequestGrant(cmd.Context(), client.GrantRequest{
				Task: task.ID, Capability: spec.capability, Params: spec.params, TTL: ttl, MaxUses: uses, Wait: readyWait,
			})
			if err == nil {
				g, err = decided(cmd.Context(), api, g, cmd.ErrOrStderr())
			}
			if err != nil {
				return err
			}
			if !g.Ready {
				return fmt.Errorf("%s is %s, not ready: %s%s", g.ID, g.State, g.EndReason, detailOf(g))
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s ready until %s\n", g.ID, g.Until.Local().Format(time.RFC3339))
			return nil
		},
	}
	cmd.Flags().DurationVar(&ttl, "ttl", 0, "how long it is to last (the capability's own when 0)")
	cmd.Flags().Int64Var(&uses, "max-uses", 0, "how many calls it is to authorise (the capability's own when 0)")
	return cmd
}

func detailOf(g client.Grant) string {
	if g.Detail == "" {
		return ""
	}
	return " (" + visible(g.Detail) + ")"
}

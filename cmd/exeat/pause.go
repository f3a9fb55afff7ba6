package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

func pauseCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pause TASK",
		Short: "End all grants of a task, which stays and gets none until it is resumed",
		Long: `Ends all grants of a task, while the task itself stays: its calls are denied, and
what it asks for is refused, until it is resumed.

Exit codes: 0 enforced; 1 nothing changed; 3 accepted, and not confirmed as
enforced.`,
		Args: cobra.ExactArgs(1),
		RunE: withAPI(func(cmd *cobra.Command, args []string, api *client.Client) error {
			r, err := api.PauseTask(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "accepted  %s  task %s is paused\n", precise(r.Ending.AcceptedAt), r.Task.ID)
			printEnforced(out, r.Ending)
			if !r.Ending.Enforced {
				return &exit{code: exitBound}
			}
			return nil
		}),
	}
}

func resumeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume TASK",
		Short: "Let a paused task ask for grants again; none comes back",
		Args:  cobra.ExactArgs(1),
		RunE: withAPI(func(cmd *cobra.Command, args []string, api *client.Client) error {
			t, err := api.ResumeTask(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "task %s is active until %s\n", t.ID, moment(t.Until))
			return nil
		}),
	}
}

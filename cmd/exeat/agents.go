package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

func agentsCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "agents",
		Short: "List agents and who suspended them; suspend and resume one",
		Args:  cobra.NoArgs,
		RunE: withAPI(func(cmd *cobra.Command, _ []string, api *client.Client) error {
			if err := o.check(); err != nil {
				return err
			}
			list, err := api.Agents(cmd.Context())
			if err != nil {
				return err
			}
			if o.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"agents": list})
			}
			table(cmd.OutOrStdout(), "AGENT\tSTATE\tTASKS\tGRANTS\tOWNER\tENVIRONMENT\tSUSPENDED BY", agentRows(list))
			return nil
		}),
	}
	o.flag(cmd.Flags())
	cmd.AddCommand(suspendCommand(), resumeAgentCommand())
	return cmd
}

func agentRows(list []client.Agent) []string {
	rows := make([]string, len(list))
	for i, a := range list {
		by := "-"
		if s := a.Suspension; s != nil {
			by = fmt.Sprintf("%s at %s", dash(s.By), moment(s.At))
			if s.Reason != "" {
				by += ": " + s.Reason
			}
		}
		rows[i] = fmt.Sprintf("%s\t%s\t%d\t%d\t%s\t%s\t%s", a.Name, a.State, a.Tasks, a.Grants, dash(strings.Join(a.Owner, ",")), dash(a.Environment), by)
	}
	return rows
}

func suspendCommand() *cobra.Command {
	var reason string
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "suspend AGENT",
		Short: "End all grants of an agent, and let it begin nothing until it is resumed",
		Long: `Ends all grants of an agent. Its calls are denied as agent_suspended, and it can
start no task and get no grant until it is resumed.

Exit codes: 0 enforced; 1 the agent is not suspended; 3 suspended, and not
confirmed as enforced within --wait.`,
		Args: cobra.ExactArgs(1),
		RunE: withOperator(func(cmd *cobra.Command, args []string, api *client.Client) error {
			a, r, err := api.SuspendAgent(cmd.Context(), args[0], reason, atOnce)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			fmt.Fprintf(out, "accepted  %s  %s\n", precise(r.Ending.AcceptedAt), extent(r))
			e, err := follow(cmd.Context(), api, client.ScopeAgent, a.Name, r.Ending, wait)
			if err != nil {
				return &exit{code: exitBound, err: fmt.Errorf("suspended; whether that is enforced cannot be read: %w", err)}
			}
			e.AcceptedAt = r.Ending.AcceptedAt
			printEnforced(out, e)
			if !e.Enforced {
				return &exit{code: exitBound}
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&reason, "reason", "", "why, in words; the agent is told")
	cmd.Flags().DurationVar(&wait, "wait", 30*time.Second, "how long to wait for the enforcement")
	return cmd
}

func resumeAgentCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "resume AGENT",
		Short: "Let a suspended agent start tasks again; nothing comes back",
		Args:  cobra.ExactArgs(1),
		RunE: withOperator(func(cmd *cobra.Command, args []string, api *client.Client) error {
			a, err := api.ResumeAgent(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "agent %s may start tasks again\n", a.Name)
			return nil
		}),
	}
}

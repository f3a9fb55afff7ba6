package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

func tasksCommand() *cobra.Command {
	var o output
	var all bool
	cmd := &cobra.Command{
		Use:   "tasks",
		Short: "List tasks",
		Args:  cobra.NoArgs,
		RunE: withAPI(func(cmd *cobra.Command, _ []string, api *client.Client) error {
			if err := o.check(); err != nil {
				return err
			}
			list, err := api.Tasks(cmd.Context())
			if err != nil {
				return err
			}
			shown := []client.Task{}
			for _, t := range list {
				if all || t.State != "ended" {
					shown = append(shown, t)
				}
			}
			if o.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"tasks": shown})
			}
			table(cmd.OutOrStdout(), "TASK\tAGENT\tTYPE\tSTATE\tSTARTED\tUNTIL\tENDED", taskRows(shown))
			return nil
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "those that ended too, as long as they are kept")
	o.flag(cmd.Flags())
	return cmd
}

func taskRows(list []client.Task) []string {
	rows := make([]string, len(list))
	for i, t := range list {
		state := t.State
		if t.PausedBy != "" {
			state += " by " + t.PausedBy
		}
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s", t.ID, t.Agent, t.Type, state, moment(t.StartedAt), moment(t.Until), ended(t.EndReason, t.EndedAt))
	}
	return rows
}

func grantsCommand() *cobra.Command {
	var o output
	var filter client.GrantFilter
	cmd := &cobra.Command{
		Use:   "grants",
		Short: "List grants, the latest first",
		Args:  cobra.NoArgs,
		RunE: withAPI(func(cmd *cobra.Command, _ []string, api *client.Client) error {
			if err := o.check(); err != nil {
				return err
			}
			list, more, err := api.Grants(cmd.Context(), filter)
			if err != nil {
				return err
			}
			if o.json() {
				return writeJSON(cmd.OutOrStdout(), map[string]any{"grants": list, "more": more})
			}
			table(cmd.OutOrStdout(), "GRANT\tAGENT\tCAPABILITY\tPARAMETERS\tSTATE\tFROM\tUNTIL\tENDED\tRENEWS\tTASK", grantRows(list))
			if more {
				fmt.Fprintln(cmd.ErrOrStderr(), "there are more; narrow with --agent or --task")
			}
			return nil
		}),
	}
	f := cmd.Flags()
	f.StringVar(&filter.Agent, "agent", "", "only this agent's")
	f.StringVar(&filter.Task, "task", "", "only this task's")
	f.BoolVarP(&filter.Ended, "all", "a", false, "those that ended too, as long as they are kept")
	o.flag(cmd.Flags())
	return cmd
}

func grantRows(list []client.Grant) []string {
	rows := make([]string, len(list))
	for i, g := range list {
		rows[i] = fmt.Sprintf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", g.ID, g.Agent, g.Capability, parameters(g.Params), g.State,
			moment(g.RequestedAt), moment(g.Until), ended(g.EndReason, g.EndedAt), dash(g.Renews), g.Task)
	}
	return rows
}

// ended says why and when something did.
func ended(reason string, at time.Time) string {
	if reason == "" {
		return "-"
	}
	return reason + " " + moment(at)
}

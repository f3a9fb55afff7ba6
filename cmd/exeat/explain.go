package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

// explainOptions are the flags of `exeat explain`.
type explainOptions struct {
	agent, task, data string
	body              bool
	output            output
}

func explainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain METHOD URL | explain DECISION",
		Short: "Say what would become of a call, or why a recorded one was decided as it was",
		Long: `Says which grants a call is held against, the first part of each rule that it
does not fit, and what may be asked for. Nothing is called and nothing recorded.
Within exeat run it is about the task there; elsewhere it asks as the operator
of this machine's exeatd. The exit code is 0 whatever the answer is.`,
		Example: `  exeat explain --agent triage GET https://tickets.example.org/v1/tickets/OPS-42
  exeat explain d_01J8Z0000000000000000000000`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.data, _ = cmd.Flags().GetString("data")
			return explain(cmd.Context(), o, args, cmd.OutOrStdout())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.agent, "agent", "", "whose call it is")
	f.StringVar(&o.task, "task", "", "within which task (all live ones of the agent when empty)")
	f.BoolVar(&o.body, "body", false, "the call carries a body")
	o.output.flag(f)
	return cmd
}

// apiFor is the task's own API within exeat run, else the local operator's.
func apiFor(data, agent string) (*client.Client, error) {
	if os.Getenv(client.EnvURL) != "" && agent == "" {
		return client.FromEnv()
	}
	return operatorAPI(data)
}

func explain(ctx context.Context, o explainOptions, args []string, out io.Writer) error {
	if err := o.output.check(); err != nil {
		return err
	}
	api, err := apiFor(o.data, o.agent)
	if err != nil {
		return err
	}
	defer api.Close()
	if len(args) == 1 {
		return explainDecision(ctx, api, args[0], o.output.json(), out)
	}
	e, err := api.Explain(ctx, client.ExplainRequest{Agent: o.agent, Task: o.task, Method: strings.ToUpper(args[0]), URL: args[1], Body: o.body})
	if err != nil {
		return err
	}
	if o.output.json() {
		return writeJSON(out, e)
	}
	printExplained(out, e)
	return nil
}

func writeJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

func printExplained(out io.Writer, e client.Explained) {
	fmt.Fprintf(out, "%s %s by %s\n", e.Call.Method, e.Call.URL, e.Agent)
	for _, t := range e.Tasks {
		where := "no task is running"
		if t.Task != "" {
			where = "task " + t.Task
		}
		fmt.Fprintf(out, "%s: %s\n", where, verdict(t))
		for _, g := range t.Grants {
			printLooked(out, g)
		}
		printNext(out, t.Next)
	}
}

func verdict(t client.ExplainedTask) string {
	if t.Allowed {
		return "would be allowed by " + t.Grant
	}
	if t.Rule != "" {
		return "would be denied: " + t.Reason + " by " + t.Rule + ": " + strings.Join(t.Messages, "; ")
	}
	return "would be denied: " + t.Reason
}

// printLooked tells of one grant; the rule that came closest says the most.
func printLooked(out io.Writer, g client.ExplainedGrant) {
	fmt.Fprintf(out, "  %s %s", g.Grant, g.Capability)
	if g.Standing != "allowed" {
		fmt.Fprintf(out, ": %s", g.Standing)
	}
	fmt.Fprintln(out)
	for _, r := range g.Rules {
		if r.Part == "" {
			fmt.Fprintf(out, "    covers    %s\n", r.Rule)
			continue
		}
		fmt.Fprintf(out, "    %-8s  %s  (want %s)\n", r.Part, r.Rule, r.Want)
	}
}

func printNext(out io.Writer, next []client.Next) {
	for _, n := range next {
		var params []string
		for _, p := range strings.Fields(parameters(n.Params)) {
			if p != "-" {
				params = append(params, p)
			}
		}
		spec := n.Capability
		if len(params) > 0 {
			spec += ":" + strings.Join(params, ",")
		}
		fmt.Fprintf(out, "  would need: exeat request %s\n", spec)
	}
}

// explainDecision prints what the record says of a call.
func explainDecision(ctx context.Context, api *client.Client, id string, asJSON bool, out io.Writer) error {
	d, err := api.Decision(ctx, id)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(out, d)
	}
	word := "denied"
	if d.Allowed {
		word = "allowed"
	}
	fmt.Fprintf(out, "%s %s %s: %s\n", d.Decision, d.Time.Local().Format("2006-01-02 15:04:05.000"), word, d.Reason)
	fmt.Fprintf(out, "  call        %s %s\n", d.Method, d.URL)
	for _, line := range []struct{ name, value string }{
		{"query", strings.Join(d.Query, " ")}, {"agent", d.Agent}, {"owner", strings.Join(d.Owner, " ")}, {"task", d.Task}, {"grant", d.Grant},
		{"capability", d.Capability}, {"destination", d.Destination}, {"removed", strings.Join(d.Removed, " ")}, {"policy", d.Policy}, {"catalog", d.Catalog},
	} {
		if line.value != "" {
			fmt.Fprintf(out, "  %-10s  %s\n", line.name, line.value)
		}
	}
	if o := d.Outcome; o != nil {
		fmt.Fprintf(out, "  outcome     %d, %d bytes sent, %d received %s\n", o.Status, o.Sent, o.Received, strings.TrimSpace(o.Details))
	}
	printNext(out, d.Next)
	return nil
}

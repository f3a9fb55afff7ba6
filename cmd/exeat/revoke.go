package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/exeat-dev/exeat/client"
)

// revokeOptions are the flags of `exeat revoke`.
type revokeOptions struct {
	all, yes bool
	wait     time.Duration
	output   output
}

func revokeCommand() *cobra.Command {
	var o revokeOptions
	cmd := &cobra.Command{
		Use:   "revoke {grant|task|agent|owner|capability} NAME | revoke --all",
		Short: "End grants now: one, or everything in a scope",
		Long: `Ends a grant (with what renewed it), a task with all its grants, or every grant
of an agent, an owner's agents or a capability; --all ends every grant there is.
Shows when the ending is accepted (durable: nothing brings it back) and when it
is enforced (no call is allowed any more, and the streams are closed).

Exit codes: 0 enforced; 1 nothing was ended; 3 accepted, and not confirmed as
enforced within --wait; 4 the question was answered with no.`,
		Example: `  exeat revoke agent triage
  exeat revoke grant g_01J8Z0000000000000000000000
  exeat revoke --all`,
		Args: cobra.MaximumNArgs(2),
		RunE: withOperator(func(cmd *cobra.Command, args []string, api *client.Client) error {
			scope, name, err := o.target(args)
			if err != nil {
				return err
			}
			if o.all && !o.yes && !confirmed(cmd.InOrStdin(), cmd.ErrOrStderr(), "End every grant of everyone?") {
				return &exit{code: exitDeclined, err: errors.New("nothing was ended")}
			}
			return o.run(cmd.Context(), api, scope, name, cmd.OutOrStdout())
		}),
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "everything")
	f.BoolVarP(&o.yes, "yes", "y", false, "do not ask before ending everything")
	f.DurationVar(&o.wait, "wait", 30*time.Second, "how long to wait for the enforcement")
	o.output.flag(cmd.Flags())
	return cmd
}

// target says what is to be revoked.
func (o revokeOptions) target(args []string) (client.Scope, string, error) {
	if err := o.output.check(); err != nil {
		return "", "", err
	}
	if o.all {
		if len(args) > 0 {
			return "", "", errors.New("--all ends everything: name nothing with it")
		}
		return client.ScopeAll, "", nil
	}
	if len(args) == 1 { // an ID says what it is of
		switch {
		case strings.HasPrefix(args[0], "g_"):
			return client.ScopeGrant, args[0], nil
		case strings.HasPrefix(args[0], "t_"):
			return client.ScopeTask, args[0], nil
		}
	}
	if len(args) != 2 {
		return "", "", errors.New("want what to end, such as agent triage, or --all")
	}
	switch scope := client.Scope(args[0]); scope {
	case client.ScopeGrant, client.ScopeTask, client.ScopeAgent, client.ScopeOwner, client.ScopeCapability:
		return scope, args[1], nil
	}
	return "", "", fmt.Errorf("%q is nothing that can be revoked: want grant, task, agent, owner or capability, or --all", args[0])
}

// atOnce is as long as a reply may wait that is to come at once.
const atOnce = time.Millisecond

// run revokes, says so, and says when that is enforced.
func (o revokeOptions) run(ctx context.Context, api *client.Client, scope client.Scope, name string, out io.Writer) error {
	r, err := api.Revoke(ctx, scope, name, atOnce)
	if err != nil {
		return err
	}
	if !o.output.json() {
		fmt.Fprintf(out, "accepted  %s  %s\n", precise(r.Ending.AcceptedAt), extent(r))
	}
	accepted := r.Ending.AcceptedAt
	if e := r.Ending; !e.Enforced {
		if r.Ending, err = follow(ctx, api, scope, name, e, o.wait); err != nil {
			return &exit{code: exitBound, err: fmt.Errorf("accepted; whether it is enforced cannot be read: %w", err)}
		}
	}
	r.Ending.AcceptedAt = accepted
	if o.output.json() {
		if err := writeJSON(out, r); err != nil {
			return err
		}
	} else {
		printEnforced(out, r.Ending)
	}
	if !r.Ending.Enforced {
		return &exit{code: exitBound}
	}
	return nil
}

// follow waits for an ending to be enforced, in pieces of what one request may
// take.
func follow(ctx context.Context, api *client.Client, scope client.Scope, name string, e client.Ending, wait time.Duration) (client.Ending, error) {
	for over := time.Now().Add(wait); !e.Enforced; {
		left := time.Until(over)
		if left <= 0 {
			return e, nil
		}
		next, err := api.GetEnding(ctx, scope, name, e.Revision, min(left, time.Minute))
		if err != nil {
			return e, err
		}
		next.Revision = e.Revision
		if e = next; e.Waiting == "sidecar_disconnected" { // it may never come back: the bound holds
			return e, nil
		}
	}
	return e, nil
}

func printEnforced(out io.Writer, e client.Ending) {
	switch {
	case e.Enforced:
		fmt.Fprintf(out, "enforced  %s  after %d ms\n", precise(e.EnforcedAt), e.EnforcedAt.Sub(e.AcceptedAt).Milliseconds())
	case e.BoundAt.IsZero():
		fmt.Fprintf(out, "not confirmed as enforced: waits for %s\n", e.Waiting)
	default:
		fmt.Fprintf(out, "not confirmed as enforced: waits for %s; the last stream ends by itself at %s\n", e.Waiting, precise(e.BoundAt))
	}
}

// extent says how much was ended.
func extent(r client.Revocation) string {
	what := string(r.Scope)
	if r.Name != "" {
		what += " " + r.Name
	}
	switch r.Scope {
	case client.ScopeGrant:
		return what
	case client.ScopeAll:
		what = "everything"
	}
	return fmt.Sprintf("%s: %s on %s", what, count(r.Grants, "active grant"), count(r.Instances, "sidecar"))
}

func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func precise(t time.Time) string { return t.Local().Format("15:04:05.000") }

// confirmed asks whoever sits at a terminal. Where nobody does, the command
// itself is the answer: a kill switch must work from a script.
func confirmed(in io.Reader, out io.Writer, question string) bool {
	f, ok := in.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return true
	}
	fmt.Fprintf(out, "%s [y/N] ", question)
	answer, _ := bufio.NewReader(in).ReadString('\n')
	answer = strings.ToLower(strings.TrimSpace(answer))
	return answer == "y" || answer == "yes"
}

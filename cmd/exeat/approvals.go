package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

// approvalOptions are the flags of `exeat approvals`.
type approvalOptions struct {
	remote
	output          output
	all, watch      bool
	digest, comment string
	ttl             time.Duration
	maxUses         int64
}

func approvalsCommand() *cobra.Command {
	var o approvalOptions
	cmd := &cobra.Command{
		Use:   "approvals",
		Short: "Look at requests that people decide on, and decide",
		Long: `Works as whoever exeat login signed in; when nobody is, as the operator of this
machine's exeatd, who approves by a code that it shows on its own terminal.
What an agent wrote is quoted, and characters that do not show as what they are
are escaped.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, o.list) },
	}
	p := cmd.PersistentFlags()
	o.flags(p)
	p.BoolVar(&o.local, "local", false, "as the operator of this machine's exeatd, whoever is signed in")
	o.output.flag(p)
	o.listFlags(cmd)
	list := &cobra.Command{Use: "list", Short: "List them, the oldest first", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd, o.list) }}
	o.listFlags(list)
	show := &cobra.Command{Use: "show ID", Short: "Show one: what it opens, what of that is new, who asks and why", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, o.with(args[0], o.show)) }}
	cmd.AddCommand(list, show, o.approveCommand(), o.refuseCommand())
	return cmd
}

func (o *approvalOptions) listFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&o.all, "all", false, "also those that are decided")
	cmd.Flags().BoolVarP(&o.watch, "watch", "w", false, "go on, and show each change")
}

func (o *approvalOptions) approveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "approve ID",
		Short: "Show one and approve it",
		Long: `Shows the request and asks. With --digest it asks nothing, and approves only if
that is the request's digest: what you have seen before.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, o.with(args[0], o.approve)) },
	}
	f := cmd.Flags()
	f.StringVar(&o.digest, "digest", "", "approve this, and ask nothing")
	f.StringVar(&o.comment, "comment", "", "what you have to say about it")
	f.DurationVar(&o.ttl, "ttl", 0, "let the grants last no longer than this")
	f.Int64Var(&o.maxUses, "max-uses", 0, "let them authorise no more calls than this")
	return cmd
}

func (o *approvalOptions) refuseCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "refuse ID --comment WHY", Short: "Refuse one, and say why", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, o.with(args[0], o.refuse)) },
	}
	cmd.Flags().StringVar(&o.comment, "comment", "", "why; the agent is told")
	cmd.Flags().StringVar(&o.digest, "digest", "", "refuse only if this is its digest")
	_ = cmd.MarkFlagRequired("comment")
	return cmd
}

// desk is one command at work: the API as somebody, and whom it talks to.
type desk struct {
	api *client.Client
	in  *bufio.Reader
	out io.Writer
	err io.Writer
}

// run opens the API for one command, which an interrupt ends.
func (o *approvalOptions) run(cmd *cobra.Command, do func(context.Context, *desk) error) error {
	if err := o.output.check(); err != nil {
		return err
	}
	o.take(cmd)
	api, err := o.caller()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	d := &desk{api: api, in: bufio.NewReader(cmd.InOrStdin()), out: cmd.OutOrStdout(), err: cmd.ErrOrStderr()}
	defer func() { d.api.Close() }()
	return do(ctx, d)
}

func (o *approvalOptions) with(id string, do func(context.Context, *desk, string) error) func(context.Context, *desk) error {
	return func(ctx context.Context, d *desk) error { return do(ctx, d, id) }
}

// watchEvery is how often a list that is watched is read.
const watchEvery = 2 * time.Second

func (o *approvalOptions) list(ctx context.Context, d *desk) error {
	last := ""
	for {
		list, err := d.api.Approvals(ctx, o.all)
		if ctx.Err() != nil && o.watch {
			return nil
		}
		if err != nil {
			return err
		}
		if text, err := o.listText(list); err != nil {
			return err
		} else if text != last {
			fmt.Fprint(d.out, text)
			last = text
		}
		if !o.watch {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(watchEvery):
		}
	}
}

func (o *approvalOptions) listText(list []client.Approval) (string, error) {
	if o.output.json() {
		return jsonText(map[string]any{"approvals": list})
	}
	return approvalTable(list), nil
}

func (o *approvalOptions) show(ctx context.Context, d *desk, id string) error {
	a, err := d.api.Approval(ctx, id)
	if err != nil {
		return err
	}
	return o.tell(d, a)
}

// tell shows a request.
func (o *approvalOptions) tell(d *desk, a client.Approval) error {
	if !o.output.json() {
		fmt.Fprint(d.out, approvalText(a))
		return nil
	}
	text, err := jsonText(a)
	fmt.Fprint(d.out, text)
	return err
}

func jsonText(v any) (string, error) {
	b, err := json.MarshalIndent(v, "", "  ")
	return string(asciiJSON(b)) + "\n", err
}

// approve approves what the person has just seen, or saw before by its digest.
func (o *approvalOptions) approve(ctx context.Context, d *desk, id string) error {
	digest := o.digest
	if digest == "" {
		a, err := d.api.Approval(ctx, id)
		if err != nil {
			return err
		}
		fmt.Fprint(d.err, approvalText(a))
		if a.Mine != nil && a.Mine.Code != codeStepUp {
			return errors.New(a.Mine.Detail)
		}
		if digest, err = d.confirm(a); err != nil {
			return err
		}
	}
	a, err := o.vote(ctx, d, id, client.Ballot{Digest: digest, Comment: o.comment, TTL: o.ttl, MaxUses: o.maxUses})
	if err != nil {
		return err
	}
	if o.output.json() {
		return o.tell(d, a)
	}
	fmt.Fprintf(d.out, "%s: approved by you; %s\n", a.ID, progress(a))
	return nil
}

// confirm asks for the beginning of the digest, which nobody types by habit.
func (d *desk) confirm(a client.Approval) (string, error) {
	if a.State != "pending" {
		return "", fmt.Errorf("%s is %s; there is nothing to approve", a.ID, a.State)
	}
	short := a.Digest[:min(len(a.Digest), 6)]
	fmt.Fprintf(d.err, "Type %s to approve this: ", short)
	line, err := d.in.ReadString('\n')
	if err != nil && line == "" {
		return "", errors.New("nothing was approved; on no terminal, say what you approve with --digest")
	}
	if strings.TrimSpace(line) != short {
		return "", errors.New("nothing was approved")
	}
	return a.Digest, nil
}

// Codes of problems that a vote goes on from.
const (
	codeStepUp     = "step_up_required"
	codeCodeNeeded = "code_required"
)

// vote says yes, and does what is asked for first: authenticating anew, or
// reading a code off the server's terminal.
func (o *approvalOptions) vote(ctx context.Context, d *desk, id string, b client.Ballot) (client.Approval, error) {
	a, err := d.api.Approve(ctx, id, b)
	var p *client.Problem
	switch {
	case !errors.As(err, &p):
	case p.Code == codeCodeNeeded:
		fmt.Fprint(d.err, p.Detail+"\nCode: ")
		line, err := d.in.ReadString('\n')
		if b.Code = strings.TrimSpace(line); err != nil && b.Code == "" {
			return a, errors.New("nothing was approved")
		}
		return d.api.Approve(ctx, id, b)
	case p.Code == codeStepUp && p.StepUp != nil:
		fmt.Fprintf(d.err, "You must have authenticated within %s to approve this. Sign in again:\n", time.Duration(p.StepUp.MaxAge))
		if err := o.stepUp(ctx, d, *p.StepUp); err != nil {
			return a, err
		}
		return d.api.Approve(ctx, id, b)
	}
	return a, err
}

// stepUp signs the same person in again.
func (o *approvalOptions) stepUp(ctx context.Context, d *desk, want client.StepUp) error {
	s, there, err := readSession(o.data)
	if err != nil || !there {
		return errors.Join(err, errors.New("nothing was approved: exeat login first"))
	}
	if _, err := login(ctx, loginOptions{
		remote: o.remote, issuer: s.Issuer, clientID: "", maxAge: time.Duration(want.MaxAge), acr: want.ACR,
	}, d.err); err != nil {
		return err
	}
	api, err := o.caller()
	if err != nil {
		return err
	}
	d.api.Close()
	d.api = api
	return nil
}

func (o *approvalOptions) refuse(ctx context.Context, d *desk, id string) error {
	a, err := d.api.Refuse(ctx, id, o.comment, o.digest)
	if err != nil {
		return err
	}
	if o.output.json() {
		return o.tell(d, a)
	}
	fmt.Fprintf(d.out, "%s: %s\n", a.ID, a.State)
	return nil
}

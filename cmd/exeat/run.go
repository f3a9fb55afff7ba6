package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

// runOptions are the flags of `exeat run`.
type runOptions struct {
	agent, taskType, purpose string
	grants                   []string
	keep                     []string
	quiet                    bool
	data                     string
	envoy                    string
}

func runCommand() *cobra.Command {
	var o runOptions
	cmd := &cobra.Command{
		Use:   "run --agent NAME [--grant CAPABILITY:param=value,...]... -- COMMAND ARGS...",
		Short: "Run a command as an agent: a sidecar, a task and its grants, and no key",
		Example: `  exeat run --agent triage --grant read-ticket:project=OPS,ticket=OPS-42 -- \
    curl https://tickets.example.org/v1/tickets/OPS-42`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o.data, _ = cmd.Flags().GetString("data")
			code, err := run(cmd.Context(), o, args, cmd.ErrOrStderr())
			if code == 0 && err == nil {
				return nil
			}
			return &exit{code: code, err: err}
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.agent, "agent", "", "the catalog's name of the agent")
	f.StringVar(&o.taskType, "task", "", "type of the task")
	f.StringVar(&o.purpose, "purpose", "", "what the task is for, in words; recorded as claimed")
	f.StringArrayVar(&o.grants, "grant", nil, "a grant to ask for before the command runs: CAPABILITY:param=value,...")
	f.StringArrayVar(&o.keep, "keep-env", nil, "name of a variable to keep although it looks like a standing secret")
	f.BoolVar(&o.quiet, "quiet", false, "print no receipt")
	f.StringVar(&o.envoy, "envoy", "", "Envoy 1.40 binary (EXEAT_ENVOY, or the one that make tools installed)")
	_ = cmd.MarkFlagRequired("agent")
	f.SetInterspersed(false)
	return cmd
}

// errRefused carries why a grant was refused.
type errRefused struct{ error }

// session is one sidecar with one task on it.
type session struct {
	sidecar *process
	task    client.Task
	api     *client.Client // acts within the task
}

// run returns the exit code, and an error that was not reported yet.
func run(ctx context.Context, o runOptions, args []string, stderr io.Writer) (int, error) {
	specs := make([]grantSpec, len(o.grants))
	for i, text := range o.grants {
		var err error
		if specs[i], err = parseGrant(text); err != nil {
			return exitRun, err
		}
	}
	signals := make(chan os.Signal, 16)
	defer signal.Stop(signals)
	// Until the command runs, an interrupt ends what has been started.
	setup, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s, err := begin(setup, o)
	if err != nil {
		return exitRun, err
	}
	defer s.sidecar.stop()
	if err := s.ask(setup, specs, stderr); err != nil {
		s.end(ctx, o, false, stderr)
		var refused errRefused
		if errors.As(err, &refused) {
			return exitRefused, err
		}
		return exitRun, err
	}
	// From here on signals are the command's. None ends us before its task and
	// its sidecar have ended.
	signal.Notify(signals)
	stop()
	return s.run(ctx, o, args, signals, stderr)
}

// run executes the command under the session and ends the task with it.
func (s *session) run(ctx context.Context, o runOptions, args []string, signals <-chan os.Signal, stderr io.Writer) (int, error) {
	live := showDenials(ctx, s.api, s.task.ID, stderr)
	code, err := execute(args, s.surroundings(o).environ(os.Environ()), signals)
	s.end(ctx, o, code == 0 && err == nil, stderr, live)
	if err != nil {
		return code, fmt.Errorf("run %s: %w", args[0], err)
	}
	return code, nil
}

// begin starts the sidecar and, through it, the task.
func begin(ctx context.Context, o runOptions) (*session, error) {
	endpoints, err := client.ReadEndpoints(o.data)
	if err != nil {
		return nil, err
	}
	sidecar, err := startSidecar(ctx, o, endpoints)
	if err != nil {
		return nil, err
	}
	s := &session{sidecar: sidecar}
	api, err := client.New(sidecar.status.API)
	if err == nil {
		s.task, err = api.StartTask(ctx, client.TaskRequest{Type: o.taskType, Claimed: client.Claimed{Purpose: o.purpose}})
	}
	if err != nil {
		sidecar.stop()
		return nil, fmt.Errorf("start a task for %s: %w", o.agent, err)
	}
	s.api = api.ForTask(s.task.Credential)
	return s, nil
}

// readyWait bounds how long one grant may take to be ready.
const readyWait = 30 * time.Second

// ask requests the grants, waits for people where they must approve, and returns
// once the very next call under each succeeds.
func (s *session) ask(ctx context.Context, specs []grantSpec, stderr io.Writer) error {
	for _, spec := range specs {
		g, err := s.api.RequestGrant(ctx, client.GrantRequest{Task: s.task.ID, Capability: spec.capability, Params: spec.params, Wait: readyWait})
		if err == nil {
			g, err = decided(ctx, s.api, g, stderr)
		}
		var p *client.Problem
		switch {
		case errors.As(err, &p) && p.Refused():
			return errRefused{fmt.Errorf("grant of %s refused: %w%s", spec.capability, err, faults(p))}
		case err != nil:
			return fmt.Errorf("grant of %s: %w", spec.capability, err)
		case g.State == "ended":
			return errRefused{fmt.Errorf("grant of %s ended (%s): %s", spec.capability, g.EndReason, g.Detail)}
		case !g.Ready:
			return fmt.Errorf("grant of %s is not ready after %s: waits for %s: %s", spec.capability, readyWait, g.Waiting, g.Detail)
		}
	}
	return nil
}

// faults lists the fields at fault, one a line.
func faults(p *client.Problem) string {
	text := ""
	for _, f := range p.Errors {
		text += "\n  " + f.Field + ": " + f.Message
	}
	return text
}

func (s *session) surroundings(o runOptions) surroundings {
	st := s.sidecar.status
	return surroundings{
		proxy: st.Proxy, user: s.task.ID, pass: s.task.Credential.Expose(), api: st.API, task: s.task.ID,
		bundle: st.CABundle, ca: st.CAFile, trustStore: st.TrustStore, clientEnv: st.ClientEnv, keep: o.keep,
	}
}

// endWait bounds how long ending the task may take: it is enforced by then, or
// the receipt says that it is not.
const endWait = 15 * time.Second

// end ends the task and prints the receipt.
func (s *session) end(ctx context.Context, o runOptions, completed bool, stderr io.Writer, live ...*denials) {
	ctx, cancel := context.WithTimeout(ctx, endWait)
	defer cancel()
	finish := s.api.FailTask
	if completed {
		finish = s.api.CompleteTask
	}
	receipt, err := finish(ctx, s.task.ID)
	var p *client.Problem
	if errors.As(err, &p) && p.Code == "ended" { // the command ended it itself
		receipt, err = s.api.Receipt(ctx, s.task.ID)
	}
	for _, l := range live {
		l.finish(ctx)
	}
	if err != nil {
		fmt.Fprintf(stderr, "exeat: the task could not be ended: %v; it ends at %s by itself\n", err, s.task.Until.Local().Format(time.RFC3339))
		return
	}
	if !o.quiet {
		printReceipt(stderr, receipt)
	}
}

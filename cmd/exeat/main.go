// Command exeat is Exeat for people: run an agent's command under a task,
// check a catalog, look at grants and end them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/exeat-dev/exeat/client"
)

// version is set by the linker.
var version = "unknown"

// Exit codes besides those of a command under `exeat run`, which pass through.
const (
	exitFailed     = 1   // the subcommand failed
	exitRefused    = 120 // run: a grant was refused; nothing was run
	exitRun        = 125 // run: exeat itself failed
	exitNotRunning = 126 // run: the command could not be started
	exitNotFound   = 127 // run: there is no such command
)

// exit carries an exit code; a nil err has been reported already.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

func (e *exit) Unwrap() error { return e.err }

func main() {
	err := root().ExecuteContext(context.Background())
	if err == nil {
		return
	}
	code := exitFailed
	var e *exit
	if errors.As(err, &e) {
		code, err = e.code, e.err
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "exeat:", err)
	}
	os.Exit(code)
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "exeat",
		Short:         "A call leaves only under an active grant",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.PersistentFlags().String("data", client.DataDir(), "folder of the exeatd to talk to")
	cmd.AddCommand(catalogCommand(), policyCommand(), runCommand(), requestCommand(), explainCommand(),
		loginCommand(), logoutCommand(), approvalsCommand())
	return cmd
}

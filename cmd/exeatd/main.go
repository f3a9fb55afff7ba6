// Command exeatd is Exeat's server: authority, store, API, xDS and
// authorisation. `exeatd dev` is all of it in one process on loopback;
// `exeatd serve` is any of its roles, in as many processes as are wanted.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "unknown"

func main() {
	harden()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		if !errors.Is(err, errTold) {
			fmt.Fprintln(os.Stderr, "exeatd:", err)
		}
		os.Exit(1)
	}
}

// errTold: what is wrong was printed already.
var errTold = errors.New("failed")

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "exeatd",
		Short:         "Exeat's server: a call leaves only under an active grant",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,

		PersistentPreRunE: fromEnvironment,
	}
	cmd.AddCommand(devCommand(), serveCommand(), configCommand(), keygenCommand(), backupCommand(), restoreCommand())
	return cmd
}

// Command exeat-sidecar runs Envoy beside an agent: it takes part in the trust
// domain as one sidecar instance, starts Envoy, and keeps it running.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "unknown"

func main() {
	harden()
	// Whoever reads our log may be gone: what follows is to end in order all the
	// same, and a write to a broken pipe would end us at once.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "exeat-sidecar:", err)
		stop()
		os.Exit(1)
	}
}

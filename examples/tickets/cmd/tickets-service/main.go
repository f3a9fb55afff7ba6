// Tickets-service serves the example's ticket service until it is told to stop,
// and prints its access log as JSON Lines.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/exeat-dev/exeat/examples/tickets/service"
)

func main() {
	issuer := flag.String("issuer", "https://127.0.0.1:8471", "URL of the token issuer (issuer in endpoints.json)")
	issuerCA := flag.String("issuer-ca", "", "file with the CA that vouches for the issuer (ca_file in endpoints.json)")
	listen := flag.String("listen", "127.0.0.1:8443", "address to serve on")
	caOut := flag.String("ca-out", "", "file to write the service's own CA to: the catalog's tickets-ca.pem")
	flag.Parse()
	if err := run(*issuer, *issuerCA, *listen, *caOut); err != nil {
		fmt.Fprintln(os.Stderr, "tickets-service:", err)
		os.Exit(1)
	}
}

func run(issuer, issuerCA, listen, caOut string) error {
	if caOut == "" {
		return errors.New("--ca-out is needed: nobody trusts the service otherwise")
	}
	var ca []byte // none: the system's roots
	if issuerCA != "" {
		var err error
		if ca, err = os.ReadFile(issuerCA); err != nil {
			return err
		}
	}
	s, err := service.New(service.Config{Log: os.Stdout})
	if err != nil {
		return err
	}
	if err := s.Trust(issuer, ca); err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	if err := os.WriteFile(caOut, s.CAPEM(), 0o644); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "tickets-service: on %s\n", l.Addr())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return s.Serve(ctx, l)
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	"github.com/exeat-dev/exeat/identity"
)

// runDev serves until ctx ends or a part fails.
func runDev(ctx context.Context, o devOptions, stderr io.Writer) error {
	if o.auditSync != "process" && o.auditSync != "disk" {
		return fmt.Errorf("--audit-sync %q: want process or disk", o.auditSync)
	}
	log := newLogger(stderr, o.verbose)
	var err error
	// Whoever reads the endpoints need not stand where we were started.
	if o.data, err = filepath.Abs(o.data); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	p, err := open(ctx, o, log)
	if err != nil {
		return err
	}
	defer p.close()
	err = p.serve(ctx)
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		log.Info("drained")
		return nil
	}
	return err
}

func newLogger(w io.Writer, verbose bool) *slog.Logger {
	level := slog.LevelInfo
	if verbose {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

// serve runs every part. The first that fails ends all.
func (p *plane) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	leave, err := p.store.JoinReplica(ctx, "authz")
	if err != nil {
		return fmt.Errorf("join as a replica: %w", err)
	}
	defer leave()
	g.Go(func() error { p.publisher.Run(ctx); return nil })
	g.Go(func() error { return p.minter.Run(ctx) })
	g.Go(func() error { return p.grants.Run(ctx) })
	g.Go(func() error { return p.denials.Run(ctx) })
	g.Go(func() error { return p.xds.Run(ctx) })
	if err := p.serveAPI(ctx, g); err != nil {
		return err
	}
	if err := p.serveGRPC(ctx, g); err != nil {
		return err
	}
	g.Go(func() error { return p.authority.ServeWorkload(ctx, p.listeners.workload) })
	g.Go(func() error { return serveHTTP(ctx, p.listeners.metrics, p.health().handler()) })
	g.Go(func() error { return p.announce(ctx) })
	return g.Wait()
}

// announce says where we are once there is something to decide by.
func (p *plane) announce(ctx context.Context) error {
	if _, err := p.publisher.First(ctx); err != nil {
		return err
	}
	if err := p.endpoints.Write(p.options.data); err != nil {
		return fmt.Errorf("write the endpoints: %w", err)
	}
	p.log.Info("serving", "api", p.endpoints.API, "grpc", p.endpoints.GRPC, "metrics", p.endpoints.Metrics,
		"trust_domain", p.trustDomain, "data", p.options.data)
	return nil
}

func (p *plane) serveAPI(ctx context.Context, g *errgroup.Group) error {
	src, err := p.source(identity.APIServer, []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback})
	if err != nil {
		return err
	}
	g.Go(func() error { return p.api.Serve(ctx, p.listeners.api, identity.ServerTLS(src, true)) })
	g.Go(func() error { return p.api.ServeLocal(ctx, p.listeners.local) })
	return nil
}

// serveGRPC serves what sidecars talk to. Connections are renewed well within
// an SVID's life, so that what was presented is never long expired.
func (p *plane) serveGRPC(ctx context.Context, g *errgroup.Group) error {
	src, err := p.source(identity.GRPCServer, nil, nil)
	if err != nil {
		return err
	}
	tls := identity.ServerTLS(src, false)
	tls.NextProtos = []string{"h2"}
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tls)),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: p.options.svidTTL / 4, MaxConnectionAgeGrace: drainTime, Time: 10 * time.Second, Timeout: 5 * time.Second,
		}),
		// Envoy pings every few seconds so that a dead server is seen.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	p.xds.Register(s)
	p.proxy.Register(s)
	g.Go(func() error { return s.Serve(p.listeners.grpc) })
	g.Go(func() error {
		<-ctx.Done()
		drained := time.AfterFunc(time.Second, s.Stop) // ADS streams never end by themselves
		defer drained.Stop()
		s.GracefulStop()
		return ctx.Err()
	})
	return nil
}

func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	s := newServer(h)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
		defer cancel()
		_ = s.Shutdown(ctx) // what it could not drain ends with the process
	})
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newInstance names a sidecar instance: unique, and of use to nobody.
func newInstance() string { return fmt.Sprintf("%016x", rand.Uint64()) }

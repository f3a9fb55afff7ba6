package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/exeat-dev/exeat/identity"
)

// run serves until ctx ends or a part fails.
func run(ctx context.Context, s settings, log *slog.Logger) error {
	p, err := open(ctx, s, log)
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

// serve runs every part. The first that fails ends all.
func (p *plane) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	if p.proxy != nil {
		// Left last: an ending must wait for this process while it answers.
		leave, err := p.store.JoinReplica(ctx, string(roleAuthz))
		if err != nil {
			return fmt.Errorf("join as a replica: %w", err)
		}
		defer leave()
	}
	p.work(ctx, g)
	if p.api != nil {
		if err := p.serveAPI(ctx, g); err != nil {
			return err
		}
	}
	if p.xds != nil || p.proxy != nil {
		if err := p.serveGRPC(ctx, g); err != nil {
			return err
		}
	}
	if p.authority != nil {
		g.Go(func() error { return p.authority.ServeWorkload(ctx, p.listeners.workload) })
	}
	if p.listeners.metrics != nil {
		g.Go(func() error { return serveHTTP(ctx, p.listeners.metrics, p.health().handler(), p.settings.drain) })
	}
	g.Go(func() error { return p.announce(ctx) })
	return g.Wait()
}

// work runs what nobody asks for.
func (p *plane) work(ctx context.Context, g *errgroup.Group) {
	if p.minter != nil {
		g.Go(func() error { return p.minter.Run(ctx) })
	}
	if p.failures != nil {
		g.Go(func() error { return p.failures.Run(ctx) })
	}
	if p.api != nil { // one role sweeps
		g.Go(func() error { return p.grants.Run(ctx) })
	}
	if p.notifier != nil {
		g.Go(func() error { return p.notifier.Run(ctx) })
	}
	if p.publisher != nil {
		g.Go(func() error { p.publisher.Run(ctx); return nil })
	}
	if p.xds != nil {
		g.Go(func() error { return p.xds.Run(ctx) })
	}
}

// announce says where we are; in dev, once there is something to decide by.
func (p *plane) announce(ctx context.Context) error {
	if p.settings.dev != nil {
		if _, err := p.publisher.First(ctx); err != nil {
			return err
		}
	}
	if err := p.endpoints.Write(p.settings.data); err != nil {
		return fmt.Errorf("write the endpoints: %w", err)
	}
	p.log.Info("serving", "roles", p.settings.roles.String(), "replica", p.settings.replica, "api", p.endpoints.API, "grpc", p.endpoints.GRPC,
		"metrics", p.endpoints.Metrics, "trust_domain", p.trustDomain, "data", p.settings.data)
	return nil
}

// source is the identity of one of this process's servers.
func (p *plane) source(ctx context.Context, id func(string) (identity.ID, error)) (identity.X509Source, error) {
	name, err := id(p.trustDomain)
	if err != nil {
		return nil, err
	}
	src, done, err := p.identities.source(ctx, name)
	if err != nil {
		return nil, err
	}
	p.onClose(done)
	return src, nil
}

func (p *plane) serveAPI(ctx context.Context, g *errgroup.Group) error {
	src, err := p.source(ctx, identity.APIServer)
	if err != nil {
		return err
	}
	g.Go(func() error { return p.api.Serve(ctx, p.listeners.api, identity.ServerTLS(src, true)) })
	if p.listeners.local != nil {
		g.Go(func() error { return p.api.ServeLocal(ctx, p.listeners.local) })
	}
	return nil
}

// serveGRPC serves what sidecars talk to.
func (p *plane) serveGRPC(ctx context.Context, g *errgroup.Group) error {
	src, err := p.source(ctx, identity.GRPCServer)
	if err != nil {
		return err
	}
	tls := identity.ServerTLS(src, false)
	tls.NextProtos = []string{"h2"}
	s := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(tls)),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			MaxConnectionAge: p.settings.connectionAge, MaxConnectionAgeGrace: p.settings.drain, Time: 10 * time.Second, Timeout: 5 * time.Second,
		}),
		// Envoy pings every few seconds so that a dead server is seen.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
	)
	if p.xds != nil {
		p.xds.Register(s)
	}
	if p.proxy != nil {
		p.proxy.Register(s)
	}
	healthpb.RegisterHealthServer(s, fitness{fit: p.fit})
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

func serveHTTP(ctx context.Context, l net.Listener, h http.Handler, drain time.Duration) error {
	s := newServer(h)
	stop := context.AfterFunc(ctx, func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
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

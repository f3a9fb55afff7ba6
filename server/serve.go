package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of one connection. The longest answer is a long poll.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 15 * time.Second
	writeTimeout  = maxWait + 30*time.Second
	idleTimeout   = 2 * time.Minute
	drainTimeout  = 5 * time.Second
	maxHeaders    = 16 << 10 // bytes
)

// Serve serves Handler on ln over TLS until ctx ends; then it lets requests
// finish for a while. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener, config *tls.Config) error {
	srv := s.httpServer(s.Handler())
	srv.TLSConfig = config
	ctx, cancel := context.WithCancel(ctx)
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	defer cancel()
	sweeping.Go(func() { s.sweepAttempts(ctx) })
	return s.run(ctx, srv, func() error { return srv.ServeTLS(ln, "", "") })
}

// ServeLocal serves LocalHandler on a Unix socket in the same way.
func (s *Server) ServeLocal(ctx context.Context, ln net.Listener) error {
	srv := s.httpServer(s.LocalHandler())
	srv.ConnContext = ConnContext
	return s.run(ctx, srv, func() error { return srv.Serve(ln) })
}

func (s *Server) httpServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaders,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) run(ctx context.Context, srv *http.Server, serve func() error) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		s.drain()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		stopped <- errors.Join(srv.Shutdown(ctx), srv.Close())
	})
	err := serve()
	// When ctx had nothing to do with it, the listener failed.
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return errors.Join(err, srv.Close())
	}
	return <-stopped
}

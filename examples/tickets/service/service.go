package service

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Audience of tokens for the service, and Host that its certificate shows.
const (
	Audience = "https://tickets.example.org"
	Host     = "tickets.example.org"
)

// Config of a Service.
type Config struct {
	Log      io.Writer        // access log as JSON Lines; nil: kept in memory only
	Clock    func() time.Time // nil: time.Now
	Interval time.Duration    // between events of a stream; 50ms when zero
}

// Service is a ticket service with a CA of its own.
type Service struct {
	cfg Config
	authority
	log    *accessLog
	server *http.Server

	mu       sync.Mutex
	verifier *verifier // nil: nobody's tokens are good
	comments map[string][]comment
}

type comment struct {
	Author string `json:"author"`
	Text   string `json:"text"`
}

// New makes a service and its CA. It refuses every token until Trust.
func New(cfg Config) (*Service, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Interval == 0 {
		cfg.Interval = 50 * time.Millisecond
	}
	ca, err := newAuthority(cfg.Clock())
	if err != nil {
		return nil, err
	}
	s := &Service{cfg: cfg, authority: ca, log: newAccessLog(cfg.Log), comments: map[string][]comment{}}
	s.server = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{ca.leaf}, MinVersion: tls.VersionTLS12},
	}
	return s, nil
}

// Trust makes the service take tokens of issuer, a URL as in the claim iss, and
// of no other. caPEM vouches for the issuer's server; nil: the system's roots.
// The issuer is not asked for anything yet.
func (s *Service) Trust(issuer string, caPEM []byte) error {
	v, err := newVerifier(issuer, caPEM, s.cfg.Clock)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.verifier = v
	return nil
}

// verify verifies a token by the trusted issuer's keys.
func (s *Service) verify(ctx context.Context, token string) (claims, error) {
	s.mu.Lock()
	v := s.verifier
	s.mu.Unlock()
	if v == nil {
		return claims{}, errors.New("no issuer is trusted yet")
	}
	return v.verify(ctx, token)
}

// Serve answers on l over TLS, HTTP/1.1 and HTTP/2, until ctx ends; streams end
// with it.
func (s *Service) Serve(ctx context.Context, l net.Listener) error {
	s.server.BaseContext = func(net.Listener) context.Context { return ctx }
	stop := context.AfterFunc(ctx, func() { _ = s.server.Close() }) // ServeTLS says how it went
	defer stop()
	err := s.server.ServeTLS(l, "", "")
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Accesses is the access log so far. A request that is being answered is in
// it, its end not known yet.
func (s *Service) Accesses() []Access { return s.log.list() }

// Await returns the access log once cond holds of it, or ctx's error.
func (s *Service) Await(ctx context.Context, cond func([]Access) bool) ([]Access, error) {
	return s.log.await(ctx, cond)
}

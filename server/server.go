package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/identity/oidc"
	"github.com/exeat-dev/exeat/store"
)

// Issuer publishes what verifies the tokens of Exeat's own issuer.
type Issuer interface {
	JWKS() []byte      // RFC 7517 section 5
	Discovery() []byte // OpenID Connect Discovery 1.0 section 3
}

// Enroller gives a sidecar of an agent an identity, attested by its process.
type Enroller interface {
	// Enroll registers the process pid as a sidecar of agent. The API answers
	// with what it returns, and adds ClientEnv itself.
	Enroll(ctx context.Context, agent string, pid int) (Enrollment, error)
}

// Config of a Server. Grants and Store are needed.
type Config struct {
	Grants *grant.Service
	Store  *store.Store
	// Issuer may be nil: then the key and discovery routes are absent.
	Issuer Issuer
	// Enroller may be nil: then sidecars cannot be enrolled here.
	Enroller Enroller
	// Snapshot copies the store to w, and gives the latest change that was in it
	// when it was asked. It may be nil: then no backup is made here.
	Snapshot func(ctx context.Context, w io.Writer) (latest int64, err error)
	// People verifies who people are; one with the system's roots when nil.
	People *oidc.Verifier
	// Terminal is where codes are shown that approve on the operator's socket:
	// this process's own, which no agent reads. nil: nothing is approved there.
	Terminal io.Writer
	// TrustDomain whose identities are served, such as exeat.local.
	TrustDomain string
	Registry    prometheus.Registerer
	Log         *slog.Logger
}

// Server is the HTTP API.
type Server struct {
	grants   *grant.Service
	index    *store.Index
	issuer   Issuer
	enroller Enroller
	snapshot func(context.Context, io.Writer) (int64, error)
	people   *oidc.Verifier
	codes    *codes
	domain   string
	log      *slog.Logger
	requests *prometheus.CounterVec
	attempts *store.Bucket // by who asks and their key
	now      func() time.Time
	public   http.Handler
	local    http.Handler
	// draining is done once the server stops: long polls then answer at once.
	draining context.Context
	drain    context.CancelFunc
}

// New makes a Server. It serves through Handler and LocalHandler.
func New(cfg Config) (*Server, error) {
	if cfg.Grants == nil || cfg.Store == nil || cfg.TrustDomain == "" {
		return nil, errors.New("server: Grants, Store and TrustDomain are needed")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	if cfg.People == nil {
		cfg.People = oidc.NewVerifier(nil, cfg.Store.Now)
	}
	s := &Server{
		people: cfg.People, codes: newCodes(cfg.Terminal, cfg.Store.Now),
		grants: cfg.Grants, index: cfg.Store.Index(), issuer: cfg.Issuer, enroller: cfg.Enroller,
		snapshot: cfg.Snapshot, domain: cfg.TrustDomain, log: cfg.Log, attempts: cfg.Store.Bucket("attempt"), now: cfg.Store.Now,
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_api_requests_total", Help: "Requests to the HTTP API by route and status.",
		}, []string{"route", "code"}),
	}
	s.draining, s.drain = context.WithCancel(context.Background())
	if err := cfg.Registry.Register(s.requests); err != nil {
		return nil, err
	}
	s.public = s.front(s.routes(false), s.apiCaller)
	s.local = s.front(s.routes(true), s.localCaller)
	return s, nil
}

// Handler serves the API over TLS, as made by identity.ServerTLS with the
// client certificate optional: the public routes need none.
func (s *Server) Handler() http.Handler { return s.public }

// LocalHandler serves the operator's API on a Unix socket. The server that it
// runs in must have ConnContext; without it every request is refused.
func (s *Server) LocalHandler() http.Handler { return s.local }

// resolver finds out who calls.
type resolver func(*http.Request) (grant.Caller, *Problem)

// front is everything that comes before a route's own code.
func (s *Server) front(r *router, who resolver) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		rec := &recorder{ResponseWriter: w}
		route := r.match(req)
		defer s.finish(rec, req, route)
		header := w.Header()
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Cache-Control", "no-store")
		if p := s.admit(rec, req, r, route, who); p != nil {
			p.write(rec)
		}
	})
}

// admit refuses what no route wants to see, and serves the rest.
func (s *Server) admit(w http.ResponseWriter, req *http.Request, r *router, route *route, who resolver) *Problem {
	if route == nil {
		return r.refuse(w, req)
	}
	if p := checkHeaders(req); p != nil {
		return p
	}
	// Who calls comes before what is said: a stranger's body is not even read.
	if !route.public {
		c, p := who(req)
		if p != nil {
			return p
		}
		if p := route.mayCall(c); p != nil {
			return p
		}
		req = req.WithContext(context.WithValue(req.Context(), callerKey{}, c))
	}
	if p := checkQuery(req); p != nil {
		return p
	}
	req, p := checkBody(w, req, route.body)
	if p != nil {
		return p
	}
	req = route.listed(req)
	if len(req.Header.Values(headerKey)) > 0 && mutates(req) && !route.public {
		return s.once(w, req, r, route, callerOf(req.Context()))
	}
	r.mux.ServeHTTP(w, req)
	return nil
}

// finish counts and logs a request, and answers for one that panicked.
func (s *Server) finish(w *recorder, req *http.Request, route *route) {
	if cause := recover(); cause != nil {
		if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(cause) // net/http's own way to cut a connection
		}
		s.log.Error("request panicked", slog.Any("panic", cause), slog.String("stack", string(debug.Stack())))
		if w.status == 0 {
			problem(codeInternal, "The request failed for a reason that is in the server's log; try again later.").write(w)
		}
	}
	// The route's pattern, never the path: labels stay few and hold no IDs.
	name := "none"
	if route != nil {
		name = route.name
	}
	s.requests.WithLabelValues(name, w.code()).Inc()
	level := slog.LevelDebug
	if mutates(req) || w.status >= http.StatusInternalServerError {
		level = slog.LevelInfo
	}
	s.log.Log(req.Context(), level, "request", slog.String("route", name), slog.String("status", w.code()))
}

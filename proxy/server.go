package proxy

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/credential"
	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// defaultMaxChecks is more than a healthy replica ever has at once: a check
// takes well under a millisecond, and what waits longer is lost anyway.
const defaultMaxChecks = 4096

// Index is what a check reads: this replica's view of the store.
type Index interface {
	Freshness
	View
}

// Freshness says whether the view may be decided on.
type Freshness interface {
	// Fresh waits briefly; false means that the view may be too old.
	Fresh(ctx context.Context) bool
	// Begin marks a running check; its Done must be called.
	Begin() store.Check
}

// View is the state at some revision. It takes no lock.
type View interface {
	Catalog() *policy.Catalog
	Task(id policy.TaskID) *policy.TaskView
	Revision() int64
}

// Credentials gives the headers that carry a grant's credential on one call.
type Credentials interface {
	Apply(ctx context.Context, held *policy.Held, call *policy.Call) ([]credential.Header, error)
}

// Consumer spends uses of grants that have limits, and of calls that are made
// but once. package grant has one.
type Consumer interface {
	// Consume spends one use; only a Spending with reason allowed does.
	Consume(ctx context.Context, held *policy.Held, use policy.UseRequest) policy.Spending
	// Settle takes in how the call of a use ended. It may be told more than once.
	Settle(ctx context.Context, held *policy.Held, use string, end policy.CallEnd) error
}

// Recorder keeps the record of decisions and of how calls ended.
type Recorder interface {
	// Decision returns once d is written. On an error d must not take effect.
	Decision(ctx context.Context, d audit.Decision) error
	// Outcome never waits and never fails.
	Outcome(ctx context.Context, o audit.Outcome)
}

// Config of a Server. Index, Now, Credentials, Consumer and Audit are needed.
type Config struct {
	Index       Index
	Now         func() time.Time
	Credentials Credentials
	Consumer    Consumer
	Audit       Recorder
	// Touches is needed where a policy asks for a task's history: without it
	// such calls are denied. Tallies tells what tasks have sent; may be nil.
	Touches Touches
	Tallies Tallies
	// Requester may be nil: then no call asks for a grant by being made.
	Requester Requester
	// MaxChecks bounds the checks that run at once; more are denied at once as
	// overloaded. 4096 when zero.
	MaxChecks int
	Registry  prometheus.Registerer // nil: no metrics are shown
	Log       *slog.Logger          // nil: slog.Default
}

// Server is the ext_authz and the access log service.
type Server struct {
	authv3.UnimplementedAuthorizationServer
	alsv3.UnimplementedAccessLogServiceServer

	index       Index
	now         func() time.Time
	credentials Credentials
	consumer    Consumer
	audit       Recorder
	touches     Touches
	requester   Requester
	tallies     Tallies
	metrics     *metrics
	log         *slog.Logger
	load        load
	settling    chan struct{} // bounds the settlings that run
	// peer tells who called, from the certificate of the connection.
	peer func(context.Context) (identity.ID, error)
}

// New makes a Server. It fails when a needed part is missing or its metrics
// are registered already.
func New(cfg Config) (*Server, error) {
	if cfg.Index == nil || cfg.Now == nil || cfg.Credentials == nil || cfg.Consumer == nil || cfg.Audit == nil {
		return nil, errors.New("proxy: Index, Now, Credentials, Consumer and Audit are needed")
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	s := &Server{
		index: cfg.Index, now: cfg.Now, credentials: cfg.Credentials, consumer: cfg.Consumer, audit: cfg.Audit,
		touches: cfg.Touches, requester: cfg.Requester, tallies: cfg.Tallies, metrics: m, log: cfg.Log, peer: identity.PeerID,
		settling: make(chan struct{}, maxSettling),
	}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.load.most = int64(cfg.MaxChecks)
	if s.load.most <= 0 {
		s.load.most = defaultMaxChecks
	}
	return s, nil
}

// Register adds both services to a gRPC server, which must verify client
// certificates.
func (s *Server) Register(g *grpc.Server) {
	authv3.RegisterAuthorizationServer(g, s)
	alsv3.RegisterAccessLogServiceServer(g, s)
}

// load counts the running checks against a bound. It never waits.
type load struct {
	most    int64
	running atomic.Int64
}

// enter reports whether one more may run; if so leave must be called.
func (l *load) enter() bool {
	if l.running.Add(1) <= l.most {
		return true
	}
	l.running.Add(-1)
	return false
}

func (l *load) leave() { l.running.Add(-1) }

package grant

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// MintFailures says in words why a grant has no credential and will get none;
// empty while nothing failed for good. *credential.Manager is one.
type MintFailures interface {
	Failure(policy.GrantID) string
}

// Config of a Service. Store and Audit are needed.
type Config struct {
	Store *store.Store
	Audit *audit.Log
	// Failures may be nil where another process mints: then a grant whose
	// credential cannot be minted is not ready until it expires.
	Failures MintFailures
	// Retention is how long an ended task stays readable; 1h when zero.
	Retention time.Duration
	Registry  prometheus.Registerer
	Log       *slog.Logger
}

// Service is the lifecycle of tasks and grants. Its methods may be called by
// many at once.
type Service struct {
	store     *store.Store
	index     *store.Index
	audit     *audit.Log
	past      *store.Bucket // what policies may ask about the past
	failures  MintFailures
	retention time.Duration
	log       *slog.Logger
	metrics   *metrics
	calls     singleflight.Group // of requests that calls make
}

// Limits and waits.
const (
	retention = time.Hour
	// settle bounds how long a read waits for this process's index to hold
	// what the store already does.
	settle = 2 * time.Second
	// roleAuthz is the role whose replicas authorise calls.
	roleAuthz = "authz"
)

// New makes a Service; it does nothing until it is asked. The sweeper is Run.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Audit == nil {
		return nil, errors.New("grant: Store and Audit are needed")
	}
	if cfg.Retention <= 0 {
		cfg.Retention = retention
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	if cfg.Registry == nil {
		cfg.Registry = prometheus.NewRegistry()
	}
	m, err := newMetrics(cfg.Registry)
	if err != nil {
		return nil, err
	}
	s := &Service{
		store: cfg.Store, index: cfg.Store.Index(), audit: cfg.Audit, past: cfg.Store.Bucket(bucketHistory), failures: cfg.Failures,
		retention: cfg.Retention, log: cfg.Log, metrics: m,
	}
	return s, cfg.Registry.Register(newWaiting(s))
}

// newID gives an identifier: a prefix and a ULID.
func newID(prefix string) string { return prefix + ulid.Make().String() }

// isID reports whether s is such an identifier, so that nothing else is ever
// looked up.
func isID(s, prefix string) bool {
	if len(s) != len(prefix)+ulid.EncodedSize || s[:len(prefix)] != prefix {
		return false
	}
	_, err := ulid.ParseStrict(s[len(prefix):])
	return err == nil
}

// view finds a task. What another replica has just written is waited for.
func (s *Service) view(ctx context.Context, id policy.TaskID) (*policy.TaskView, error) {
	if !isID(string(id), "t_") {
		return nil, ErrNotFound
	}
	if v := s.index.Task(id); v != nil {
		return v, nil
	}
	if _, err := s.store.GetTask(ctx, id); err != nil {
		return nil, hide(err)
	}
	return s.settled(ctx, id, func(v *policy.TaskView) bool { return v != nil })
}

// settled waits, briefly, until the index shows what the store was told.
func (s *Service) settled(ctx context.Context, id policy.TaskID, cond func(*policy.TaskView) bool) (*policy.TaskView, error) {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	return s.index.AwaitTask(ctx, id, cond)
}

// taskOf finds the task that a grant belongs to.
func (s *Service) taskOf(ctx context.Context, id policy.GrantID) (*policy.TaskView, error) {
	if !isID(string(id), "g_") {
		return nil, ErrNotFound
	}
	task := s.index.TaskOfGrant(id)
	if task == "" {
		g, err := s.store.GetGrant(ctx, id)
		if err != nil {
			return nil, hide(err)
		}
		return s.settled(ctx, g.Task, func(v *policy.TaskView) bool { return held(v, id) != nil })
	}
	return s.view(ctx, task)
}

// hide makes what the store does not have the same as what is not the caller's.
func hide(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return ErrNotFound
	}
	return err
}

// readable finds a task that c may see, for reading.
func (s *Service) readable(c Caller, v *policy.TaskView, err error) (*policy.TaskView, error) {
	if err != nil {
		return nil, err
	}
	if !c.maySee(v.Task, s.ownerOf(v.Task.Agent)) {
		return nil, ErrNotFound
	}
	return v, nil
}

// changeable finds a task that c may change.
func changeable(c Caller, v *policy.TaskView, err error) (*policy.TaskView, error) {
	if err != nil {
		return nil, err
	}
	if !c.mayChange(v.Task) {
		return nil, ErrNotFound
	}
	return v, nil
}

// asAgent says why c cannot change anything of an agent's, before anything is
// looked up.
func asAgent(c Caller) error {
	if c.Agent == nil || c.Instance == "" {
		return ErrNoInstance
	}
	if !c.hasProof() {
		return ErrProof
	}
	return nil
}

// held finds a grant in a view, which may be nil.
func held(v *policy.TaskView, id policy.GrantID) *policy.Held {
	if v == nil {
		return nil
	}
	for _, h := range v.Held {
		if h.Grant.ID == id {
			return h
		}
	}
	return nil
}

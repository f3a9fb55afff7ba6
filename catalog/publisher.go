package catalog

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/policy"
)

// Election under which one process publishes.
const Election = "catalog"

// Store is where a catalog comes into force. *store.Store is one.
type Store interface {
	// PublishCatalog gives the store revision at which source came into force;
	// what is in force already changes nothing.
	PublishCatalog(ctx context.Context, source []byte) (int64, error)
}

// PublisherConfig of a Publisher. Dir and Store must be given.
type PublisherConfig struct {
	Dir     string // folder of YAML files
	Secrets string // secrets root; Dir when empty
	// Policies come from this bundle when it is given, and not from Dir.
	Policies *Bundle
	Store    Store
	// Lead runs fn while this process holds the named election, until ctx ends
	// (Store.Lead is it). nil: this process always leads.
	Lead     func(ctx context.Context, name string, fn func(context.Context))
	Interval time.Duration // between looks at the folder; 1s when zero
	Registry prometheus.Registerer
	Clock    func() time.Time // nil: time.Now
	Log      *slog.Logger
}

// State says how the publisher is doing. The zero State has looked at nothing.
type State struct {
	// Revision of the catalog that was published last ("c_..."); empty when
	// none was since this process leads.
	Revision string
	// Published is the store revision at which it came into force.
	Published int64
	// LoadedAt is when the folder was last read after a change, good or not.
	LoadedAt time.Time
	// Errors of that reading; none when it was good.
	Errors Errors
	// Failure is why a good catalog could not be published; it is tried again.
	Failure error
}

// Err is what keeps the folder as it is from being in force: Errors, Failure,
// or nil.
func (s State) Err() error {
	if len(s.Errors) > 0 {
		return s.Errors
	}
	return s.Failure
}

// Publisher brings a folder's catalog into force whenever it changes. A folder
// with errors leaves the last good catalog in force.
type Publisher struct {
	cfg      PublisherConfig
	failures prometheus.Counter
	success  prometheus.Gauge

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed at the next change of state
}

// NewPublisher checks the configuration and registers the metrics.
func NewPublisher(cfg PublisherConfig) (*Publisher, error) {
	if cfg.Dir == "" || cfg.Store == nil {
		return nil, errors.New("catalog publisher: a folder and a store are needed")
	}
	cfg.Interval = cmp.Or(cfg.Interval, time.Second)
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Lead == nil {
		cfg.Lead = func(ctx context.Context, _ string, fn func(context.Context)) { fn(ctx) }
	}
	p := &Publisher{cfg: cfg, changed: make(chan struct{})}
	p.failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "exeat_catalog_reload_failures_total",
		Help: "Times that a changed catalog was not brought into force.",
	})
	p.success = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "exeat_catalog_last_reload_success",
		Help: "1 if the catalog folder as it was last read is in force, 0 if not.",
	})
	return p, p.register()
}

func (p *Publisher) register() error {
	if p.cfg.Registry == nil {
		return nil
	}
	return errors.Join(p.cfg.Registry.Register(p.failures), p.cfg.Registry.Register(p.success))
}

// Run publishes whenever this process leads, until ctx ends.
func (p *Publisher) Run(ctx context.Context) {
	p.cfg.Lead(ctx, Election, p.follow)
}

// State gives the state as it is now.
func (p *Publisher) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

// Wait returns the state once cond holds of it, or ctx's error.
func (p *Publisher) Wait(ctx context.Context, cond func(State) bool) (State, error) {
	for {
		p.mu.Lock()
		state, changed := p.state, p.changed
		p.mu.Unlock()
		if cond(state) {
			return state, nil
		}
		select {
		case <-ctx.Done():
			return state, ctx.Err()
		case <-changed:
		}
	}
}

// First returns once the folder was read for the first time and, if it was
// good, the store has answered. A process that does not lead waits for ctx.
func (p *Publisher) First(ctx context.Context) (State, error) {
	return p.Wait(ctx, func(s State) bool { return !s.LoadedAt.IsZero() })
}

func (p *Publisher) set(s State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = s
	close(p.changed)
	p.changed = make(chan struct{})
}

// follow looks at the folder now and at every interval. What leadership
// published before is published again: the store knows whether it changes anything.
func (p *Publisher) follow(ctx context.Context) {
	ticks := time.NewTicker(p.cfg.Interval)
	defer ticks.Stop()
	var last seen
	for {
		last = p.look(ctx, last)
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
		}
	}
}

// look loads the folder if it is not what was seen last, and publishes what
// could not be published then.
func (p *Publisher) look(ctx context.Context, last seen) seen {
	at, f := p.see(ctx, last.refs)
	if at == last.at {
		if last.pending != nil {
			last.pending = p.publish(ctx, *last.pending)
		}
		return last
	}
	if last.at != (fingerprint{}) { // at the start nobody is writing
		f = p.settle(ctx, f)
	}
	if ctx.Err() != nil {
		return last
	}
	return p.reload(ctx, f)
}

// reload makes of f what can be made of it.
func (p *Publisher) reload(ctx context.Context, f folder) seen {
	l := load(f, orDir(p.cfg.Secrets, p.cfg.Dir))
	now := seen{at: l.at, refs: l.refs}
	if l.set == nil {
		p.reject(l.errs)
		return now
	}
	source, err := policy.EncodeSet(l.set)
	if err != nil {
		p.reject(Errors{{File: p.cfg.Dir, Message: "cannot be stored: " + err.Error()}})
		return now
	}
	now.pending = p.publish(ctx, candidate{source, l.compiled.Revision(), p.cfg.Clock()})
	return now
}

// reject keeps what is in force.
func (p *Publisher) reject(errs Errors) {
	s := p.State()
	s.LoadedAt, s.Errors, s.Failure = p.cfg.Clock(), errs, nil
	p.failed("catalog not loaded: the last good one stays", slog.String("summary", errs.Summary()),
		slog.Any("errors", firstLines(errs)))
	p.set(s)
}

func (p *Publisher) failed(message string, attrs ...slog.Attr) {
	p.failures.Inc()
	p.success.Set(0)
	p.cfg.Log.LogAttrs(context.Background(), slog.LevelError, message, attrs...)
}

// firstLines bounds a log line.
func firstLines(errs Errors) []string {
	const most = 20
	var lines []string
	for _, e := range errs[:min(len(errs), most)] {
		lines = append(lines, e.Error())
	}
	return lines
}

// candidate is a catalog that is good and not in force yet.
type candidate struct {
	source   []byte
	revision string
	loadedAt time.Time
}

// publish gives c back when the store refused it for now.
func (p *Publisher) publish(ctx context.Context, c candidate) *candidate {
	at, err := p.cfg.Store.PublishCatalog(ctx, c.source)
	if ctx.Err() != nil {
		return &c // leadership ended; the next leader publishes
	}
	if err != nil {
		s := p.State()
		if s.Failure == nil || s.LoadedAt != c.loadedAt {
			p.failed("catalog not published: will try again", slog.String("revision", c.revision), slog.Any("error", err))
		}
		s.LoadedAt, s.Errors, s.Failure = c.loadedAt, nil, err
		p.set(s)
		return &c
	}
	p.success.Set(1)
	p.cfg.Log.Info("catalog published", "revision", c.revision, "store_revision", at)
	p.set(State{Revision: c.revision, Published: at, LoadedAt: c.loadedAt})
	return nil
}

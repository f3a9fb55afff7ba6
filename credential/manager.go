package credential

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Event is something that happened to a grant's credential, for the audit.
type Event struct {
	Time     time.Time
	Grant    policy.Grant // only the subject is set when the grant is gone
	Action   string       // minted, refreshed or revoked
	Provider string
	Outcome  string // minted, injected or failed; of a revocation an Outcome
	Handle   string
	Expires  time.Time
	Outlives time.Duration // after the grant's end
	Detail   string        // in words, such as what failed
}

// The actions and the outcomes that are no Outcome.
const (
	actionMinted    = "minted"
	actionRefreshed = "refreshed"
	actionRevoked   = "revoked"

	outcomeMinted   = "minted"
	outcomeInjected = "injected"
	outcomeFailed   = "failed"
)

// Recorder keeps events. It must not block for long.
type Recorder interface {
	RecordCredential(ctx context.Context, e Event)
}

// Config of a Manager. Store and Key are needed; Issuer by jwt providers and
// SecretsRoot by static ones.
type Config struct {
	Store *store.Store
	// Key wraps the data keys of sealed credentials: 32 random bytes that all
	// authz replicas share and nobody else has.
	Key [32]byte
	// OldKeys still open what was sealed under them.
	OldKeys     [][32]byte
	SecretsRoot string
	Issuer      *Issuer
	Recorder    Recorder
	// Replica names this process; a restart under the same name goes on at once
	// with what it had claimed. Random when empty.
	Replica  string
	Registry prometheus.Registerer
	Log      *slog.Logger
	Wall     func() time.Time // nil: Store.Now

	// provider replaces the catalog's, in tests.
	provider func(*v1alpha1.Provider) (Provider, error)
}

// How long things may take, and how many grants are looked at at once.
const (
	mintTimeout = 8 * time.Second
	claimTTL    = 10 * time.Second // longer than anything done under a claim
	retryShort  = 200 * time.Millisecond
	sweepEvery  = time.Minute
	workers     = 16
)

// Manager mints, refreshes, applies and revokes.
type Manager struct {
	cfg      Config
	index    *store.Index
	now      func() time.Time
	sealer   *sealer
	ledger   *ledger
	jobs     *jobs
	breakers breakers
	opened   sync.Map // policy.GrantID to *opened, of grants that live
	pending  pending
	metrics  *metrics
}

// New makes a Manager; Run makes it work.
func New(cfg Config) (*Manager, error) {
	if cfg.Store == nil {
		return nil, errors.New("credential: no store")
	}
	s, err := newSealer(cfg.Key, cfg.OldKeys)
	if err != nil {
		return nil, err
	}
	if cfg.Wall == nil {
		cfg.Wall = cfg.Store.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Replica == "" {
		cfg.Replica = "authz-" + ulid.Make().String()
	}
	m := &Manager{
		cfg: cfg, index: cfg.Store.Index(), now: cfg.Wall, sealer: s,
		ledger: newLedger(cfg.Store), jobs: newJobs(cfg.Wall),
		breakers: breakers{open: make(map[string]*breaker)},
		pending:  pending{since: make(map[policy.GrantID]time.Time)},
	}
	if m.cfg.provider == nil {
		m.cfg.provider = m.catalogProvider
	}
	m.metrics = newMetrics(cfg.Registry, m)
	return m, nil
}

// newID names a credential before it exists.
func newID(now time.Time) string {
	return "k_" + ulid.MustNew(ulid.Timestamp(now), ulid.DefaultEntropy()).String()
}

// Run mints, refreshes and revokes until ctx ends. What it leaves undone then,
// or when it is killed, any replica finds again: the index shows which grants
// lack a credential, the ledger which are out.
func (m *Manager) Run(ctx context.Context) error {
	sub := m.index.Subscribe()
	defer sub.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		defer cancel() // without the ledger nothing may be minted
		if err := m.ledger.follow(ctx, m.look); err != nil && ctx.Err() == nil {
			m.cfg.Log.Error("credential ledger not followed", "error", err.Error())
		}
	})
	wg.Go(func() { m.jobs.run(ctx, workers, m.reconcile) })
	wg.Go(func() { m.sweep(ctx) })
	if m.cfg.Issuer != nil {
		wg.Go(func() { _ = m.cfg.Issuer.Run(ctx) })
	}
	for {
		batch, err := sub.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil //nolint:nilerr // the end was asked for
			}
			return err
		}
		m.changed(batch)
	}
}

// sweep forgets opened credentials of grants that have ended: a call that was
// being checked at the end may have put one back.
func (m *Manager) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		m.opened.Range(func(id, _ any) bool {
			if h, v := m.held("", id.(policy.GrantID)); !live(h, v, m.now()) {
				m.opened.Delete(id)
			}
			return true
		})
	}
}

// look asks for a look at a grant now.
func (m *Manager) look(grant policy.GrantID, task policy.TaskID) { m.jobs.add(grant, task, m.now()) }

// changed asks for a look at every grant that a batch may be about.
func (m *Manager) changed(batch store.Batch) {
	each := func(v *policy.TaskView) bool {
		for _, h := range v.Held {
			m.look(h.Grant.ID, v.Task.ID)
		}
		return true
	}
	if batch.All {
		m.index.EachTask(each)
		for _, e := range m.ledger.all() { // those whose task is gone, too
			m.look(policy.GrantID(e.GetGrant()), policy.TaskID(e.GetTask()))
		}
		return
	}
	for id := range batch.Tasks {
		if v := m.index.Task(id); v != nil {
			each(v)
		}
	}
}

// held finds a grant in the index; nil when it is not there.
func (m *Manager) held(task policy.TaskID, grant policy.GrantID) (*policy.Held, *policy.TaskView) {
	if task == "" {
		task = m.index.TaskOfGrant(grant)
	}
	v := m.index.Task(task)
	if v == nil {
		return nil, nil
	}
	for _, h := range v.Held {
		if h.Grant.ID == grant {
			return h, v
		}
	}
	return nil, v
}

// live reports whether a grant may have a credential at now.
func live(h *policy.Held, v *policy.TaskView, now time.Time) bool {
	return h != nil && v != nil && h.Grant.Live(now) && v.Task.Live(now) && !h.Raised()
}

// ended reports whether a grant that the index knows is over for good.
func ended(h *policy.Held, v *policy.TaskView, now time.Time) bool {
	return h.Grant.State == policy.Ended || v.Task.State == policy.Ended || h.Raised() ||
		!now.Before(h.Grant.Until) || !now.Before(v.Task.Until)
}

// reconcile does for one grant what is to be done now, and says when to look
// again; zero for when something changes.
func (m *Manager) reconcile(ctx context.Context, grant policy.GrantID, task policy.TaskID) time.Time {
	now := m.now()
	held, view := m.held(task, grant)
	entry := m.ledger.get(grant)
	switch {
	case entry.Entry == nil && (held == nil || ended(held, view, now)):
		m.opened.Delete(grant)
		m.pending.remove(grant) // another replica may have settled it
		return time.Time{}
	case held == nil:
		return m.orphan(ctx, entry, now)
	case live(held, view, now):
		return m.supply(ctx, held, view, entry, now)
	case ended(held, view, now):
		m.opened.Delete(grant)
		return m.settle(ctx, entry, endOf(held, view, now), now)
	default: // pending or paused: it has nothing yet
		return time.Time{}
	}
}

// orphan looks at an entry whose grant the index does not know: it may be gone,
// or the index may be behind the ledger. Only the store itself can tell.
func (m *Manager) orphan(ctx context.Context, entry ledgerEntry, now time.Time) time.Time {
	g, err := m.cfg.Store.GetGrant(ctx, policy.GrantID(entry.GetGrant()))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return m.settle(ctx, entry, now, now)
	case err == nil && (g.State == policy.Ended || !now.Before(g.Until)):
		return m.settle(ctx, entry, firstOf(g.EndedAt, g.Until), now)
	default:
		return now.Add(retryShort)
	}
}

// endOf is when a grant ended, as far as it is known.
func endOf(h *policy.Held, v *policy.TaskView, now time.Time) time.Time {
	return firstOf(h.Grant.EndedAt, v.Task.EndedAt, h.Grant.Until, now)
}

// firstOf gives the earliest of those that are known.
func firstOf(times ...time.Time) (first time.Time) {
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	return first
}

// provider builds the catalog's provider.
func (m *Manager) provider(p *v1alpha1.Provider) (Provider, error) { return m.cfg.provider(p) }

// catalogProvider makes a provider of the kind that the catalog names.
func (m *Manager) catalogProvider(p *v1alpha1.Provider) (Provider, error) {
	switch {
	case p == nil:
		return nil, errors.New("no provider")
	case p.Spec.JWT != nil:
		return newJWT(p.Spec.JWT, m.cfg.Issuer, m.now)
	case p.Spec.Static != nil:
		return &staticProvider{root: m.cfg.SecretsRoot, spec: p.Spec.Static}, nil
	default:
		return nil, errors.New("the provider is of a kind that this program does not know")
	}
}

// Failure says in words why a grant has no credential and what to do; empty
// when nothing failed.
func (m *Manager) Failure(id policy.GrantID) string { return m.ledger.get(id).GetFailure() }

// record tells the recorder, which never sees a secret: events hold none.
func (m *Manager) record(ctx context.Context, e Event) {
	if m.cfg.Recorder != nil {
		m.cfg.Recorder.RecordCredential(ctx, e)
	}
}

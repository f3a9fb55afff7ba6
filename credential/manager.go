package credential

import (
	"context"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	Detail   string        // what failed, in words
}

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
}

// Manager mints, refreshes, applies and revokes.
type Manager struct{}

// New makes a Manager; Run makes it work.
func New(cfg Config) (*Manager, error) { panic("contract") }

// Run mints and revokes until ctx ends.
func (m *Manager) Run(ctx context.Context) error { panic("contract") }

// Apply gives the headers that carry the grant's credential on one call; none
// when its capability has no provider. It takes no lock.
func (m *Manager) Apply(ctx context.Context, held *policy.Held, call *policy.Call) ([]Header, error) {
	panic("contract")
}

// Failure says in words why a grant has no credential and what to do; empty
// when nothing failed.
func (m *Manager) Failure(id policy.GrantID) string { panic("contract") }

// ReadFailure is Failure for processes that have no Manager: it reads the
// ledger.
func ReadFailure(ctx context.Context, s *store.Store, id policy.GrantID) (string, error) {
	panic("contract")
}

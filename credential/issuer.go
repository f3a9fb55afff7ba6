package credential

import (
	"context"
	"log/slog"
	"time"

	"github.com/exeat-dev/exeat/store"
)

// IssuerConfig of an Issuer. Store, Key and URL are needed.
type IssuerConfig struct {
	Store   *store.Store
	Key     [32]byte
	OldKeys [][32]byte
	// URL is the issuer identifier (RFC 8414 section 2), an https URL.
	URL string
	// Rotation is how long one key signs; 24h when zero. The next key is
	// published one whole rotation before it signs.
	Rotation time.Duration
	// MaxTTL is the longest token; 1h when zero. An old key stays published
	// that long after its last signature.
	MaxTTL time.Duration
	Log    *slog.Logger
	Wall   func() time.Time // nil: Store.Now
}

// Issuer is Exeat's own OIDC issuer, with the keys to sign.
type Issuer struct{}

// OpenIssuer reads the keys, making the first ones.
func OpenIssuer(ctx context.Context, cfg IssuerConfig) (*Issuer, error) { panic("contract") }

// JWKS is the published key set (RFC 7517 section 5).
func (i *Issuer) JWKS() []byte { panic("contract") }

// Discovery is the metadata document (OpenID Connect Discovery 1.0 section 3,
// RFC 8414 section 3.2).
func (i *Issuer) Discovery() []byte { panic("contract") }

// PublicIssuer serves an issuer's documents without its keys.
type PublicIssuer struct{}

// OpenPublicIssuer follows the published keys until ctx ends.
func OpenPublicIssuer(ctx context.Context, s *store.Store, url string) (*PublicIssuer, error) {
	panic("contract")
}

// JWKS is the published key set (RFC 7517 section 5).
func (p *PublicIssuer) JWKS() []byte { panic("contract") }

// Discovery is the metadata document.
func (p *PublicIssuer) Discovery() []byte { panic("contract") }

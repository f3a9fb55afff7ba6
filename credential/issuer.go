package credential

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// IssuerConfig of an Issuer. Store, Key and URL are needed.
type IssuerConfig struct {
	Store *store.Store
	// Key wraps the data keys that the signing keys are sealed under, as
	// Config.Key does.
	Key     [32]byte
	OldKeys [][32]byte
	// URL is the issuer identifier (RFC 8414 section 2), an https URL.
	URL string
	// Rotation is how long one key signs; 24h when zero. The next key is
	// published one whole rotation before it signs, so a verifier may keep the
	// key set for that long.
	Rotation time.Duration
	// MaxTTL is the longest token; 24h when zero. An old key stays published
	// that long after its last signature.
	MaxTTL time.Duration
	Log    *slog.Logger
	Wall   func() time.Time // nil: Store.Now
}

// defaults fills in what was left out.
func (c *IssuerConfig) defaults() {
	if c.Rotation <= 0 {
		c.Rotation = 24 * time.Hour
	}
	if c.MaxTTL <= 0 {
		c.MaxTTL = 24 * time.Hour
	}
	if c.Wall == nil {
		c.Wall = c.Store.Now
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// issuerSkew is how far the clocks of replicas and verifiers may be apart.
const issuerSkew = time.Minute

// Issuer is Exeat's own OIDC issuer, with the keys to sign. Several replicas
// share the keys through the store: each change is a compare-and-swap.
type Issuer struct {
	*PublicIssuer
	cfg    IssuerConfig
	bucket *store.Bucket
	sealer *sealer

	mu   sync.Mutex
	keys keySet // published, all of them
}

// OpenIssuer reads the keys, making the first ones, and serves the documents
// until ctx ends.
func OpenIssuer(ctx context.Context, cfg IssuerConfig) (*Issuer, error) {
	cfg.defaults()
	if err := checkURL(cfg.URL); err != nil {
		return nil, err
	}
	s, err := newSealer(cfg.Key, cfg.OldKeys)
	if err != nil {
		return nil, err
	}
	i := &Issuer{cfg: cfg, sealer: s, bucket: cfg.Store.Bucket(issuerBucket)}
	if err := i.ensure(ctx); err != nil {
		return nil, fmt.Errorf("issuer keys: %w", err)
	}
	i.PublicIssuer, err = OpenPublicIssuer(ctx, cfg.Store, cfg.URL)
	return i, err
}

// checkURL wants an issuer identifier: https, with neither query nor fragment.
func checkURL(raw string) error {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return errors.New("issuer: want an https URL without query, fragment and user (RFC 8414 section 2)")
	}
	return nil
}

// Run rotates the keys on time until ctx ends, also when nothing is signed.
func (i *Issuer) Run(ctx context.Context) error {
	tick := time.NewTicker(max(time.Millisecond, min(i.cfg.Rotation/4, time.Minute)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := i.ensure(ctx); err != nil && ctx.Err() == nil {
			i.cfg.Log.Warn("issuer keys not rotated", "error", err.Error())
		}
	}
}

// Sign makes a token of claims, which are encoded as JSON: a JWS with header
// typ (RFC 7515 section 4.1.9), ES256 (RFC 7518 section 3.4). expires is the
// claims' exp; a token that would outlive its key's publication is refused.
func (i *Issuer) Sign(ctx context.Context, typ string, claims any, expires time.Time) (policy.Secret, error) {
	now := i.cfg.Wall()
	if expires.Sub(now) > i.cfg.MaxTTL {
		return policy.Secret{}, fmt.Errorf("issuer: a token of more than %v is not possible", i.cfg.MaxTTL)
	}
	if err := i.ensure(ctx); err != nil {
		return policy.Secret{}, fmt.Errorf("issuer keys: %w", err)
	}
	i.mu.Lock()
	key, ok := i.keys.signing(now)
	i.mu.Unlock()
	if !ok {
		return policy.Secret{}, errors.New("issuer: no key signs at this time")
	}
	token, err := key.sign(typ, claims)
	return policy.NewSecret(token), err
}

// ensure makes sure that a key signs now and that the one after it is already
// published; most often it is so.
func (i *Issuer) ensure(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.keys.current(i.cfg.Wall()) {
		return nil
	}
	for {
		next, err := i.rotate(ctx)
		if errors.Is(err, store.ErrConflict) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			continue // another replica was faster; see what it did
		}
		if err != nil {
			return err
		}
		if err := i.publish(ctx, next); err != nil {
			return err
		}
		i.keys = next
		return nil
	}
}

// rotate reads the keys and, if it is time, adds one and drops what retired.
func (i *Issuer) rotate(ctx context.Context) (keySet, error) {
	old, rev, err := i.load(ctx)
	if err != nil {
		return keySet{}, err
	}
	now := i.cfg.Wall()
	if old.current(now) {
		return old, nil
	}
	next, err := old.rotate(now, i.cfg.Rotation, i.cfg.MaxTTL+issuerSkew)
	if err != nil {
		return keySet{}, err
	}
	b, err := next.encode()
	if err != nil {
		return keySet{}, err
	}
	defer clear(b)
	sealed, err := i.sealer.seal(purposeIssuer, keysKey, b)
	if err != nil {
		return keySet{}, err
	}
	if _, err := i.bucket.Swap(ctx, keysKey, rev, sealed); err != nil {
		return keySet{}, err
	}
	i.cfg.Log.Info("issuer key added", "kid", next.keys[len(next.keys)-1].kid, "generation", next.generation)
	return next, nil
}

// load reads the shared keys; none yet is an empty set at revision 0.
func (i *Issuer) load(ctx context.Context) (keySet, int64, error) {
	e, err := i.bucket.Get(ctx, keysKey)
	if errors.Is(err, store.ErrNotFound) {
		return keySet{}, 0, nil
	}
	if err != nil {
		return keySet{}, 0, err
	}
	b, err := i.sealer.open(purposeIssuer, keysKey, e.Value)
	if err != nil {
		return keySet{}, 0, err
	}
	defer clear(b)
	keys, err := decodeKeys(b)
	return keys, e.Revision, err
}

// publish writes the public halves, unless a later generation is there.
func (i *Issuer) publish(ctx context.Context, keys keySet) error {
	b, err := keys.public()
	if err != nil {
		return err
	}
	for {
		e, err := i.bucket.Get(ctx, jwksKey)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err == nil && generation(e.Value) >= keys.generation {
			return nil
		}
		_, err = i.bucket.Swap(ctx, jwksKey, e.Revision, b)
		if !errors.Is(err, store.ErrConflict) || ctx.Err() != nil {
			return err
		}
	}
}

package credential

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/exeat-dev/exeat/credential/record"
	"github.com/exeat-dev/exeat/store"
)

// PublicIssuer serves an issuer's documents without its keys.
type PublicIssuer struct {
	discovery []byte
	jwks      atomic.Pointer[publicKeys]
}

type publicKeys struct {
	generation int64
	jwks       []byte
}

// OpenPublicIssuer follows the published keys until ctx ends. Before the first
// are published the key set is empty, and nothing verifies.
func OpenPublicIssuer(ctx context.Context, s *store.Store, url string) (*PublicIssuer, error) {
	if err := checkURL(url); err != nil {
		return nil, err
	}
	discovery, err := discoveryOf(url)
	if err != nil {
		return nil, err
	}
	p := &PublicIssuer{discovery: discovery}
	p.jwks.Store(&publicKeys{jwks: []byte(`{"keys":[]}`)})
	bucket := s.Bucket(issuerBucket)
	e, err := bucket.Get(ctx, jwksKey)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	p.see(e)
	go func() {
		// Watch ends with ctx; what was seen last stays.
		_ = bucket.Watch(ctx, func(e store.Entry) {
			if e.Key == jwksKey {
				p.see(e)
			}
		})
	}()
	return p, nil
}

// see takes over a stored key set, never an older one.
func (p *PublicIssuer) see(e store.Entry) {
	var r record.PublicKeys
	if len(e.Value) == 0 || proto.Unmarshal(e.Value, &r) != nil || r.GetVersion() != recordVersion {
		return
	}
	for {
		old := p.jwks.Load()
		if r.GetGeneration() <= old.generation {
			return
		}
		if p.jwks.CompareAndSwap(old, &publicKeys{generation: r.GetGeneration(), jwks: r.GetJwks()}) {
			return
		}
	}
}

// JWKS is the published key set (RFC 7517 section 5).
func (p *PublicIssuer) JWKS() []byte { return p.jwks.Load().jwks }

// Discovery is the metadata document (OpenID Connect Discovery 1.0 section 3,
// RFC 8414 section 3.2).
func (p *PublicIssuer) Discovery() []byte { return p.discovery }

// discoveryOf describes an issuer that people cannot log in to: it has no
// authorization endpoint, and what it signs is found by its keys alone.
func discoveryOf(url string) ([]byte, error) {
	return json.Marshal(struct {
		Issuer     string   `json:"issuer"`
		JWKS       string   `json:"jwks_uri"`
		Responses  []string `json:"response_types_supported"`
		Subjects   []string `json:"subject_types_supported"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
		Claims     []string `json:"claims_supported"`
	}{
		Issuer: url, JWKS: strings.TrimSuffix(url, "/") + "/jwks",
		Responses: []string{"id_token"}, Subjects: []string{"public"}, Algorithms: []string{"ES256"},
		Claims: []string{
			"iss", "sub", "aud", "exp", "iat", "jti", "client_id", "scope", claimGrant, claimTask,
		},
	})
}

// Package oidctest runs an OpenID Connect issuer in process for tests: its
// discovery, its keys, and tokens that say whatever a test wants.
package oidctest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Issuer is a running issuer.
type Issuer struct {
	T   testing.TB
	URL string
	// Asked counts requests for keys, Discovered those for metadata.
	Asked, Discovered atomic.Int32
	// Down makes every answer a 503.
	Down atomic.Bool

	mu   sync.Mutex
	key  *ecdsa.PrivateKey
	name string
	// says is what discovery says of the issuer.
	says string
}

// Start runs an issuer on loopback until the test ends.
func Start(t testing.TB) *Issuer {
	t.Helper()
	i := &Issuer{T: t}
	i.Rotate("k1")
	srv := httptest.NewServer(i)
	t.Cleanup(srv.Close)
	i.URL, i.says = srv.URL, srv.URL
	return i
}

// Rotate makes a new key the only one.
func (i *Issuer) Rotate(name string) {
	i.T.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		i.T.Fatal(err)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.key, i.name = key, name
}

// Claim makes discovery speak of another issuer.
func (i *Issuer) Claim(issuer string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.says = issuer
}

// ServeHTTP serves discovery and keys.
func (i *Issuer) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.Down.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	switch req.URL.Path {
	case "/.well-known/openid-configuration":
		i.Discovered.Add(1)
		_ = json.NewEncoder(w).Encode(map[string]any{"issuer": i.says, "jwks_uri": i.URL + "/jwks"})
	case "/jwks":
		i.Asked.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: &i.key.PublicKey, KeyID: i.name, Algorithm: string(jose.ES256), Use: "sig"},
		}})
	default:
		http.NotFound(w, req)
	}
}

// Claims of a token that is right for client exeat, for ten minutes, of someone
// who authenticated just now.
func (i *Issuer) Claims(subject string, groups ...string) map[string]any {
	now := time.Now()
	return map[string]any{
		"iss": i.URL, "aud": "exeat", "sub": subject, "preferred_username": subject + "@example.org", "groups": groups,
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(), "auth_time": now.Unix(),
	}
}

// Sign makes a token of claims, with the issuer's key.
func (i *Issuer) Sign(claims map[string]any) string {
	i.T.Helper()
	i.mu.Lock()
	key, name := i.key, i.name
	i.mu.Unlock()
	return Sign(i.T, jose.SigningKey{Algorithm: jose.ES256, Key: key}, name, claims)
}

// Token is a right token of someone in those groups.
func (i *Issuer) Token(subject string, groups ...string) string {
	i.T.Helper()
	return i.Sign(i.Claims(subject, groups...))
}

// Sign makes a token with any key.
func Sign(t testing.TB, key jose.SigningKey, id string, claims map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(key, (&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

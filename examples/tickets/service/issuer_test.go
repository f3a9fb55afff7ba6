package service

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// testIssuer signs tokens and publishes its keys, as Exeat's issuer does.
type testIssuer struct {
	*httptest.Server
	mu      sync.Mutex
	name    string // in place of its URL in the discovery document
	keys    []jose.JSONWebKey
	fetched int
}

func newIssuer(t *testing.T) *testIssuer {
	t.Helper()
	i := &testIssuer{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		name := i.name
		if name == "" {
			name = i.URL
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": name, "jwks_uri": i.URL + "/jwks"})
	})
	mux.HandleFunc("GET /jwks", func(w http.ResponseWriter, _ *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetched++
		var set jose.JSONWebKeySet
		for _, k := range i.keys {
			set.Keys = append(set.Keys, k.Public())
		}
		_ = json.NewEncoder(w).Encode(set)
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	i.rotate(t, "first")
	return i
}

func (i *testIssuer) caPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw})
}

// rotate makes a key that signs from now on; the old one stays published.
func (i *testIssuer) rotate(t *testing.T, id string) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	i.keys = append(i.keys, newKey(t, id))
}

func newKey(t *testing.T, id string) jose.JSONWebKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return jose.JSONWebKey{Key: key, KeyID: id, Algorithm: "ES256", Use: "sig"}
}

func (i *testIssuer) key() jose.JSONWebKey {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.keys[len(i.keys)-1]
}

// claimsWith are those of a good token for OPS-42, with changes; a nil removes.
func (i *testIssuer) claimsWith(changes map[string]any) map[string]any {
	now := time.Now()
	c := map[string]any{
		"iss": i.URL, "sub": "spiffe://example.org/agent/triage", "aud": Audience, "jti": "one",
		"iat": now.Add(-time.Second).Unix(), "exp": now.Add(time.Minute).Unix(),
		"scope": "ticket:read", "ticket": "OPS-42", "exeat_grant": "g_1", "exeat_task": "t_1",
	}
	for name, value := range maps.All(changes) {
		if c[name] = value; value == nil {
			delete(c, name)
		}
	}
	return c
}

func sign(t *testing.T, key jose.JSONWebKey, typ string, claims map[string]any) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithHeader(jose.HeaderType, typ)
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(key.Algorithm), Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Signed(signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (i *testIssuer) token(t *testing.T, changes map[string]any) string {
	return sign(t, i.key(), "at+jwt", i.claimsWith(changes))
}

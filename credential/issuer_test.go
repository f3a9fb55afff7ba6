package credential

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/storetest"
)

// verifier is an upstream that fetches the key set only every so often, and
// never because a key is unknown.
type verifier struct {
	every   time.Duration
	fetched time.Time
	jwks    []byte
}

func (v *verifier) check(t *testing.T, i interface{ JWKS() []byte }, token string, now time.Time) {
	t.Helper()
	if now.Sub(v.fetched) >= v.every {
		v.jwks, v.fetched = slices.Clone(i.JWKS()), now
	}
	claims(t, v.jwks, token, now)
}

type signed struct {
	token   string
	expires time.Time
}

// Two replicas whose clocks differ sign through several rotations; a verifier
// with a stale key set verifies each token at once and at its very end.
func TestRotationFailsNoVerification(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	base := &clock{now: s.Now()}
	const rotation, ttl = time.Hour, 90 * time.Minute
	replica := func(skew time.Duration) *Issuer {
		i, err := OpenIssuer(t.Context(), IssuerConfig{
			Store: s, Key: testKey, URL: issuerURL, Rotation: rotation, MaxTTL: ttl,
			Wall: func() time.Time { return base.Now().Add(skew) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	issuers := []*Issuer{replica(0), replica(20 * time.Second)}
	public, err := OpenPublicIssuer(t.Context(), s, issuerURL)
	if err != nil {
		t.Fatal(err)
	}
	v := &verifier{every: rotation - 3*time.Minute}
	var live []signed
	kids := map[string]bool{}
	for step := range 7 * 20 { // every three minutes for seven hours
		now := base.Now()
		issuer := issuers[step%2]
		exp := now.Add(ttl - time.Minute).Truncate(time.Second)
		token, err := issuer.Sign(t.Context(), "at+jwt", map[string]any{"exp": exp.Unix()}, exp)
		if err != nil {
			t.Fatal(err)
		}
		live = append(live, signed{token.Expose(), exp})
		kids[kidOf(t, token)] = true
		awaitPublished(t, issuer, public)
		for _, x := range live {
			v.check(t, public, x.token, now)
		}
		base.advance(3 * time.Minute)
		live = slices.DeleteFunc(live, func(x signed) bool { return !base.Now().Before(x.expires) })
	}
	if len(kids) < 6 {
		t.Errorf("%d keys signed in seven hours", len(kids))
	}
	if n := len(keysIn(t, public.JWKS())); n > 5 {
		t.Errorf("%d keys are published: retired ones stay", n)
	}
}

// awaitPublished waits until a follower shows what the issuer last published.
func awaitPublished(t *testing.T, i *Issuer, p *PublicIssuer) {
	t.Helper()
	i.mu.Lock()
	want := i.keys.generation
	i.mu.Unlock()
	deadline := time.Now().Add(time.Minute)
	for p.jwks.Load().generation < want || i.jwks.Load().generation < want {
		if time.Now().After(deadline) {
			t.Fatal("the keys were never published")
		}
		time.Sleep(time.Millisecond)
	}
}

func kidOf(t *testing.T, token policy.Secret) string {
	t.Helper()
	got, err := jose.ParseSigned(token.Expose(), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	return got.Signatures[0].Header.KeyID
}

func keysIn(t *testing.T, jwks []byte) []jose.JSONWebKey {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

func TestTheKeysSurviveARestart(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	var first []byte
	for range 2 {
		s := storetest.Open(t, storetest.WithDir(dir))
		i, err := OpenIssuer(t.Context(), IssuerConfig{Store: s, Key: testKey, URL: issuerURL})
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = i.JWKS()
		}
		if string(first) != string(i.JWKS()) {
			t.Errorf("keys changed from %s to %s", first, i.JWKS())
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOnlyTheKeyHolderSigns(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	if _, err := OpenIssuer(t.Context(), IssuerConfig{Store: s, Key: testKey, URL: issuerURL}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenIssuer(t.Context(), IssuerConfig{Store: s, Key: [32]byte{7}, URL: issuerURL}); err == nil {
		t.Error("another key opened the issuer")
	}
	if _, err := OpenIssuer(t.Context(), IssuerConfig{Store: s, Key: [32]byte{7}, OldKeys: [][32]byte{testKey}, URL: issuerURL}); err != nil {
		t.Errorf("a new key with the old one beside it: %v", err)
	}
	if _, err := OpenIssuer(t.Context(), IssuerConfig{Store: s, URL: issuerURL}); err == nil {
		t.Error("no key opened the issuer")
	}
}

func TestATokenMayNotOutliveItsKey(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	i, err := OpenIssuer(t.Context(), IssuerConfig{Store: s, Key: testKey, URL: issuerURL, MaxTTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := i.Sign(t.Context(), "at+jwt", map[string]any{}, s.Now().Add(2*time.Hour)); err == nil {
		t.Error("signed for longer than the key stays published")
	}
}

func TestTheDocuments(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var doc struct {
		Issuer    string   `json:"issuer"`
		JWKS      string   `json:"jwks_uri"`
		Subjects  []string `json:"subject_types_supported"`
		Responses []string `json:"response_types_supported"`
		Algs      []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := json.Unmarshal(w.issuer.Discovery(), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.Issuer != issuerURL || doc.JWKS != issuerURL+"/jwks" || len(doc.Subjects) == 0 || len(doc.Responses) == 0 || doc.Algs[0] != "ES256" {
		t.Errorf("discovery %s", w.issuer.Discovery())
	}
	keys := keysIn(t, w.issuer.JWKS())
	if len(keys) != 2 {
		t.Errorf("%d keys published, want the current one and the next", len(keys))
	}
	for _, k := range keys {
		if !k.IsPublic() || k.Use != "sig" || k.Algorithm != "ES256" || k.KeyID == "" {
			t.Errorf("published key %+v", k)
		}
	}
	if strings.Contains(string(w.issuer.JWKS()), `"d"`) {
		t.Error("a private key is published")
	}
}

func TestAnIssuerIsAnHTTPSURL(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "http://issuer.example.org", "https://", "https://a/?b", "https://a/#b", "https://u@a/", "a"} {
		if checkURL(url) == nil {
			t.Errorf("%q is accepted", url)
		}
	}
	if err := checkURL("https://127.0.0.1:8443"); err != nil {
		t.Error(err)
	}
}

package oidc_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/exeat-dev/exeat/identity/oidc"
	"github.com/exeat-dev/exeat/identity/oidc/oidctest"
)

func believed(i *oidctest.Issuer) []oidc.Issuer {
	return []oidc.Issuer{{URL: i.URL, ClientID: "exeat", GroupsClaim: "groups"}}
}

func TestATokenSaysWhoItIs(t *testing.T) {
	t.Parallel()
	i := oidctest.Start(t)
	claims := i.Claims("ann", "leads", "")
	claims["acr"] = "mfa"
	got, err := oidc.NewVerifier(nil, nil).Verify(t.Context(), believed(i), i.Sign(claims))
	if err != nil {
		t.Fatal(err)
	}
	if got.Issuer != i.URL || got.ClientID != "exeat" || got.Subject != "ann" || got.Name != "ann@example.org" ||
		len(got.Groups) != 1 || got.Groups[0] != "leads" || time.Since(got.AuthTime) > time.Minute || got.ACR != "mfa" || got.Expires.IsZero() {
		t.Errorf("got %+v", got)
	}
}

// Each row is a right token that was changed in one way.
func TestATokenThatIsNotRightIsRefused(t *testing.T) {
	t.Parallel()
	i, other := oidctest.Start(t), oidctest.Start(t)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	with := func(change func(map[string]any)) string {
		claims := i.Claims("ann", "leads")
		change(claims)
		return i.Sign(claims)
	}
	set := func(name string, value any) string { return with(func(c map[string]any) { c[name] = value }) }
	right := i.Token("ann", "leads")
	parts := strings.Split(right, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`))
	in := func(d time.Duration) int64 { return time.Now().Add(d).Unix() }
	for name, c := range map[string]struct {
		token string
		want  error
	}{
		"nothing":                          {"", oidc.ErrMalformed},
		"a word":                           {"opaque", oidc.ErrMalformed},
		"alg none without a signature":     {none + "." + parts[1] + ".", oidc.ErrMalformed},
		"alg none with another signature":  {none + "." + parts[1] + "." + parts[2], oidc.ErrMalformed},
		"HMAC with a public key's text":    {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.HS256, Key: []byte(strings.Repeat("k", 32))}, "k1", i.Claims("ann")), oidc.ErrMalformed},
		"another key under the known name": {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: stranger}, "k1", i.Claims("ann")), oidc.ErrSignature},
		"a key that nobody knows":          {oidctest.Sign(t, jose.SigningKey{Algorithm: jose.ES256, Key: stranger}, "k9", i.Claims("ann")), oidc.ErrSignature},
		"other claims under the signature": {parts[0] + "." + strings.Split(i.Token("bob", "leads"), ".")[1] + "." + parts[2], oidc.ErrSignature},
		"another issuer's token":           {other.Token("ann", "leads"), oidc.ErrIssuer},
		"another issuer's name in it":      {set("iss", other.URL), oidc.ErrIssuer},
		"our issuer's name in another's":   {other.Sign(i.Claims("ann")), oidc.ErrSignature},
		"the issuer with a slash":          {set("iss", i.URL+"/"), oidc.ErrIssuer},
		"another audience":                 {set("aud", "other"), oidc.ErrAudience},
		"no audience":                      {with(func(c map[string]any) { delete(c, "aud") }), oidc.ErrAudience},
		"an audience that is a part of it": {set("aud", "exea"), oidc.ErrAudience},
		"two audiences, another asked":     {with(func(c map[string]any) { c["aud"], c["azp"] = []string{"exeat", "other"}, "other" }), oidc.ErrAudience},
		"two audiences, nobody asked":      {set("aud", []string{"exeat", "other"}), oidc.ErrAudience},
		"expired beyond the skew":          {set("exp", in(-2*time.Minute)), oidc.ErrExpired},
		"without an end":                   {with(func(c map[string]any) { delete(c, "exp") }), oidc.ErrExpired},
		"issued in the future":             {set("iat", in(5*time.Minute)), oidc.ErrFuture},
		"authenticated in the future":      {set("auth_time", in(5*time.Minute)), oidc.ErrFuture},
		"not valid for a while":            {set("nbf", in(time.Hour)), oidc.ErrFuture},
		"without a subject":                {set("sub", ""), oidc.ErrMalformed},
		"too large":                        {set("name", strings.Repeat("x", 16<<10)), oidc.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := oidc.NewVerifier(nil, nil).Verify(t.Context(), believed(i), c.token)
			if !errors.Is(err, c.want) || got.Subject != "" {
				t.Errorf("got %+v, %v; want %v", got, err, c.want)
			}
		})
	}
	for name, token := range map[string]string{
		"expired within the skew": set("exp", in(-30*time.Second)),
		"issued within the skew":  set("iat", in(30*time.Second)),
		"two audiences, we asked": with(func(c map[string]any) { c["aud"], c["azp"] = []string{"exeat", "other"}, "exeat" }),
	} {
		if _, err := oidc.NewVerifier(nil, nil).Verify(t.Context(), believed(i), token); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := oidc.NewVerifier(nil, nil).Verify(t.Context(), nil, right); !errors.Is(err, oidc.ErrIssuer) {
		t.Errorf("without issuers: %v", err)
	}
}

// Whatever comes in, an issuer is asked only now and then; and a key that it
// has withdrawn is not believed for long.
func TestHowOftenAnIssuerIsAsked(t *testing.T) {
	t.Parallel()
	i := oidctest.Start(t)
	var ahead atomic.Int64
	v := oidc.NewVerifier(nil, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) })
	step := func(d time.Duration) { ahead.Add(int64(d)) }
	long := func(subject string) string {
		c := i.Claims(subject)
		c["exp"] = time.Now().Add(24 * time.Hour).Unix()
		return i.Sign(c)
	}
	verify := func(token string, want error) {
		t.Helper()
		if _, err := v.Verify(t.Context(), believed(i), token); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
	old := long("ann")
	for range 10 {
		verify(old, nil)
	}
	if n := i.Asked.Load(); n != 1 {
		t.Errorf("asked %d times for one key", n)
	}
	i.Rotate("k2")
	renewed := long("ann")
	for range 10 {
		verify(renewed, oidc.ErrSignature) // known keys are seconds old
	}
	if n := i.Asked.Load(); n != 1 {
		t.Errorf("unknown keys made %d requests", n)
	}
	step(6 * time.Second)
	verify(renewed, nil)
	verify(old, oidc.ErrSignature) // withdrawn
	i.Down.Store(true)
	step(11 * time.Minute)
	verify(renewed, nil) // an outage is borne for a while
	step(time.Hour)
	verify(renewed, oidc.ErrUnavailable)
	i.Down.Store(false)
	step(6 * time.Second)
	verify(renewed, nil)
}

func TestAnIssuerThatCannotBeBelieved(t *testing.T) {
	t.Parallel()
	i := oidctest.Start(t)
	i.Claim("https://elsewhere.example.org")
	if _, err := oidc.NewVerifier(nil, nil).Verify(t.Context(), believed(i), i.Token("ann")); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("metadata of another issuer: %v", err)
	}
	down := oidctest.Start(t)
	down.Down.Store(true)
	if _, err := oidc.NewVerifier(nil, nil).Verify(t.Context(), believed(down), down.Token("ann")); !errors.Is(err, oidc.ErrUnavailable) {
		t.Errorf("an issuer that is down: %v", err)
	}
}

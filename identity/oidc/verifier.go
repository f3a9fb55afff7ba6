package oidc

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	upstream "github.com/coreos/go-oidc/v3/oidc"
)

// Issuer is whom to believe, about tokens issued to one client of it.
type Issuer struct {
	URL      string // issuer identifier, compared as it is
	ClientID string
	// GroupsClaim names the claim with the person's groups.
	GroupsClaim string
}

// Token is what a verified ID token says.
type Token struct {
	Issuer, ClientID string
	// Subject is unique within the issuer; Name is only for people to read.
	Subject, Name string
	Groups        []string
	// AuthTime is when the person last authenticated, zero when not said.
	AuthTime time.Time
	// ACR is the authentication context class reference, empty when not said.
	ACR     string
	Expires time.Time
}

// Errors of Verify. None holds anything of the token.
var (
	// ErrMalformed: it is no signed ID token, or one signed by no algorithm
	// that is taken.
	ErrMalformed = errors.New("not an ID token that is signed by an asymmetric key")
	// ErrIssuer: nobody whom we believe issued it.
	ErrIssuer = errors.New("the token's issuer is not one that is believed")
	// ErrAudience: it was issued to another client.
	ErrAudience = errors.New("the token was issued to another client")
	// ErrExpired: its time is over.
	ErrExpired = errors.New("the token has expired")
	// ErrFuture: it is from a time that is yet to come.
	ErrFuture = errors.New("the token is from the future")
	// ErrSignature: no key of the issuer made its signature.
	ErrSignature = errors.New("the token's signature is not the issuer's")
	// ErrUnavailable: the issuer's keys cannot be had now.
	ErrUnavailable = errors.New("the issuer cannot be reached")
)

const (
	// Skew is how far the issuer's clock and ours may be apart.
	Skew = time.Minute
	// maxToken is what a token's text may have, in bytes.
	maxToken = 12 << 10
	// maxGroups bounds what is read of a person's groups.
	maxGroups, maxText = 1000, 512
	// maxIssuers bounds what is kept of issuers that no catalog names any more.
	maxIssuers = 64
)

// algorithms that a token may be signed by (RFC 7518 section 3.1, RFC 8037).
var algorithms = []string{
	upstream.RS256, upstream.RS384, upstream.RS512, upstream.PS256, upstream.PS384, upstream.PS512,
	upstream.ES256, upstream.ES384, upstream.ES512, upstream.EdDSA,
}

// Verifier verifies ID tokens. It may be used by many at once.
type Verifier struct {
	client *http.Client
	now    func() time.Time

	mu      sync.Mutex
	issuers map[string]*keySet
}

// NewVerifier makes a Verifier. transport nil: http.DefaultTransport's
// behaviour; now nil: time.Now.
func NewVerifier(transport http.RoundTripper, now func() time.Time) *Verifier {
	if now == nil {
		now = time.Now
	}
	return &Verifier{client: newClient(transport), now: now, issuers: map[string]*keySet{}}
}

// Verify tells who sent a token, if one of the issuers vouches for it. Its
// errors are those of this package.
func (v *Verifier) Verify(ctx context.Context, issuers []Issuer, raw string) (Token, error) {
	claims, err := peek(raw)
	if err != nil {
		return Token{}, err
	}
	// What is read before the signature is checked only chooses by whom and
	// for whom the token must then prove to be.
	known := slices.DeleteFunc(slices.Clone(issuers), func(i Issuer) bool { return i.URL == "" || i.URL != claims.Issuer })
	if len(known) == 0 {
		return Token{}, ErrIssuer
	}
	at := slices.IndexFunc(known, func(i Issuer) bool { return claims.issuedTo(i.ClientID) })
	if at < 0 {
		return Token{}, ErrAudience
	}
	return v.verify(ctx, known[at], raw)
}

func (v *Verifier) verify(ctx context.Context, issuer Issuer, raw string) (Token, error) {
	now := v.now()
	id, err := upstream.NewVerifier(issuer.URL, v.keysOf(issuer.URL), &upstream.Config{
		ClientID: issuer.ClientID, SupportedSigningAlgs: algorithms,
		Now: func() time.Time { return now.Add(-Skew) },
	}).Verify(ctx, raw)
	if err != nil {
		return Token{}, wordsOf(err)
	}
	// The same reading as peek's, of what is now known to be the issuer's.
	claims, err := peek(raw)
	switch {
	case err != nil:
		return Token{}, err
	case claims.Issuer != issuer.URL || !claims.issuedTo(issuer.ClientID):
		return Token{}, ErrAudience
	case id.IssuedAt.After(now.Add(Skew)) || claims.authTime().After(now.Add(Skew)):
		return Token{}, ErrFuture
	case claims.Subject == "" || len(claims.Subject) > maxText:
		return Token{}, ErrMalformed
	}
	return Token{
		Issuer: issuer.URL, ClientID: issuer.ClientID, Subject: claims.Subject, Name: claims.name(),
		Groups: claims.groups(issuer.GroupsClaim), AuthTime: claims.authTime(), ACR: claims.ACR, Expires: id.Expiry,
	}, nil
}

// wordsOf puts the library's errors, which quote the token, in our own.
func wordsOf(err error) error {
	var expired *upstream.TokenExpiredError
	switch {
	case errors.As(err, &expired):
		return ErrExpired
	case errors.Is(err, ErrUnavailable):
		return err
	case strings.Contains(err.Error(), ErrUnavailable.Error()): // the library wraps without %w
		return ErrUnavailable
	case strings.Contains(err.Error(), ErrSignature.Error()):
		return ErrSignature
	case strings.Contains(err.Error(), "nbf"):
		return ErrFuture
	}
	return ErrMalformed
}

func (v *Verifier) keysOf(issuer string) *keySet {
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.issuers[issuer]
	if k == nil {
		if len(v.issuers) >= maxIssuers {
			clear(v.issuers)
		}
		k = newKeySet(issuer, v.client, v.now)
		v.issuers[issuer] = k
	}
	return k
}

// claims is what is read of a token's payload.
type claims struct {
	Issuer            string          `json:"iss"`
	Subject           string          `json:"sub"`
	Audience          json.RawMessage `json:"aud"`
	AuthorizedParty   string          `json:"azp"`
	Name              string          `json:"name"`
	PreferredUsername string          `json:"preferred_username"`
	Email             string          `json:"email"`
	AuthTime          json.Number     `json:"auth_time"`
	ACR               string          `json:"acr"`
	all               map[string]json.RawMessage
}

// peek reads a token's payload without believing it.
func peek(raw string) (claims, error) {
	var c claims
	parts := strings.Split(raw, ".")
	if len(raw) > maxToken || len(parts) != 3 || parts[2] == "" {
		return c, ErrMalformed
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil || json.Unmarshal(payload, &c.all) != nil {
		return c, ErrMalformed
	}
	return c, nil
}

// issuedTo: the client is in the audience, and where there are several the
// token says that it is the one that asked (OpenID Connect Core 1.0 section
// 3.1.3.7, steps 3 to 5).
func (c claims) issuedTo(client string) bool {
	list := texts(c.Audience)
	if client == "" || !slices.Contains(list, client) {
		return false
	}
	if len(list) > 1 || c.AuthorizedParty != "" {
		return c.AuthorizedParty == client
	}
	return true
}

func (c claims) authTime() time.Time {
	n, err := c.AuthTime.Float64()
	if err != nil || n <= 0 || n > 1<<40 {
		return time.Time{}
	}
	return time.Unix(int64(n), 0).UTC()
}

// name is what the person is called, by whatever the issuer says of it.
func (c claims) name() string {
	for _, n := range []string{c.PreferredUsername, c.Email, c.Name, c.Subject} {
		if n != "" && len(n) <= maxText {
			return n
		}
	}
	return ""
}

func (c claims) groups(claim string) []string {
	list := slices.DeleteFunc(texts(c.all[claim]), func(g string) bool { return g == "" || len(g) > maxText })
	return list[:min(len(list), maxGroups)]
}

// texts reads a text or a list of texts; anything else is none.
func texts(raw json.RawMessage) []string {
	var one string
	if json.Unmarshal(raw, &one) == nil && one != "" {
		return []string{one}
	}
	var list []string
	if json.Unmarshal(raw, &list) != nil {
		return nil
	}
	return list
}

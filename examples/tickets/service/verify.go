package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// claims of an access token (RFC 9068 section 2.2) and the ones of this service.
type claims struct {
	Issuer   string       `json:"iss"`
	Subject  string       `json:"sub"`
	Audience jwt.Audience `json:"aud"`
	// Times are seconds that may have a fraction (RFC 7519 section 2). A token
	// that ends with its grant ends within a second, not at a full one.
	Expiry    float64 `json:"exp"`
	NotBefore float64 `json:"nbf"`
	IssuedAt  float64 `json:"iat"`
	ID        string  `json:"jti"`
	Scope     string  `json:"scope"`
	Ticket    string  `json:"ticket"`
	Grant     string  `json:"exeat_grant"`
	Task      string  `json:"exeat_task"`
}

func (c claims) hasScope(want string) bool { return slices.Contains(strings.Fields(c.Scope), want) }

// verifier verifies tokens of one issuer.
type verifier struct {
	issuer string
	client *http.Client
	clock  func() time.Time

	mu   sync.Mutex
	keys jose.JSONWebKeySet
}

func newVerifier(issuer string, caPEM []byte, clock func() time.Time) (*verifier, error) {
	if !strings.HasPrefix(issuer, "https://") {
		return nil, errors.New("ticket service: want an issuer whose URL begins with https://")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	if caPEM != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(caPEM) {
			return nil, errors.New("ticket service: the issuer's CA holds no certificate")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	client := &http.Client{Transport: transport, Timeout: 5 * time.Second}
	return &verifier{issuer: strings.TrimSuffix(issuer, "/"), client: client, clock: clock}, nil
}

// verify checks signature, type, issuer, audience and time (RFC 9068 section 4),
// with no leeway: issuer and service share a clock here.
func (v *verifier) verify(ctx context.Context, token string) (claims, error) {
	var c claims
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil || len(parsed.Headers) != 1 {
		return c, errors.New("not a token signed with ES256")
	}
	header := parsed.Headers[0]
	if typ, _ := header.ExtraHeaders[jose.HeaderType].(string); !isAccessToken(typ) {
		return c, errors.New("not an access token")
	}
	key, err := v.key(ctx, header.KeyID)
	if err != nil {
		return c, err
	}
	if err := parsed.Claims(key, &c); err != nil {
		return claims{}, errors.New("the signature is not the issuer's")
	}
	if err := v.check(c); err != nil {
		return claims{}, err
	}
	return c, nil
}

// isAccessToken follows RFC 9068 section 4: the prefix may be left out.
func isAccessToken(typ string) bool {
	return strings.EqualFold(typ, "at+jwt") || strings.EqualFold(typ, "application/at+jwt")
}

func (v *verifier) check(c claims) error {
	now := float64(v.clock().UnixNano()) / float64(time.Second)
	switch {
	case strings.TrimSuffix(c.Issuer, "/") != v.issuer:
		return errors.New("another issuer's token")
	case !slices.Contains(c.Audience, Audience):
		return errors.New("a token for another service")
	case now >= c.Expiry:
		return errors.New("the token is over")
	case now < c.NotBefore, now < c.IssuedAt:
		return errors.New("the token has not begun")
	case c.Subject == "" || c.ID == "":
		return errors.New("the token names nobody")
	}
	return nil
}

// key finds a key of the issuer, and asks for its keys when it is a new one.
func (v *verifier) key(ctx context.Context, id string) (*jose.JSONWebKey, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if found := v.keys.Key(id); len(found) == 1 {
		return &found[0], nil
	}
	keys, err := v.fetch(ctx)
	if err != nil {
		return nil, err
	}
	v.keys = keys
	if found := v.keys.Key(id); len(found) == 1 && found[0].IsPublic() {
		return &found[0], nil
	}
	return nil, errors.New("the issuer has no such key")
}

// fetch follows OpenID Connect Discovery 1.0 section 4.
func (v *verifier) fetch(ctx context.Context) (jose.JSONWebKeySet, error) {
	var discovery struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}
	var keys jose.JSONWebKeySet
	if err := v.get(ctx, v.issuer+"/.well-known/openid-configuration", &discovery); err != nil {
		return keys, err
	}
	if strings.TrimSuffix(discovery.Issuer, "/") != v.issuer {
		return keys, errors.New("the issuer's discovery document names another issuer")
	}
	return keys, v.get(ctx, discovery.JWKS, &keys)
}

func (v *verifier) get(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return errors.New("the issuer's address is none")
	}
	response, err := v.client.Do(request)
	if err != nil {
		return errors.New("the issuer does not answer")
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the issuer answers %d", response.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(into); err != nil {
		return errors.New("the issuer's answer cannot be read")
	}
	return nil
}

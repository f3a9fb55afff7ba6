package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	// freshFor is how long keys are used without asking again: how long a key
	// that the issuer has withdrawn may go on.
	freshFor = 10 * time.Minute
	// keepFor is how long they are used when the issuer cannot be reached.
	keepFor = time.Hour
	// askEvery is how often an issuer is asked at most, whatever comes in.
	askEvery     = 5 * time.Second
	fetchTimeout = 5 * time.Second
	maxDocument  = 1 << 20 // bytes
	maxKeys      = 64
)

// Discovery is what is read of an issuer's metadata (OpenID Connect Discovery
// 1.0 section 3, RFC 8628 section 4).
type Discovery struct {
	Issuer    string `json:"issuer"`
	JWKSURL   string `json:"jwks_uri"`
	TokenURL  string `json:"token_endpoint"`
	DeviceURL string `json:"device_authorization_endpoint"`
}

// keySet is the keys of one issuer; it implements go-oidc's KeySet.
type keySet struct {
	issuer string
	client *http.Client
	now    func() time.Time

	turn  chan struct{} // of one: whoever has it may fetch and owns what follows
	keys  []jose.JSONWebKey
	got   time.Time // when keys were fetched
	asked time.Time // when that was last tried
}

func newKeySet(issuer string, client *http.Client, now func() time.Time) *keySet {
	return &keySet{issuer: issuer, client: client, now: now, turn: make(chan struct{}, 1)}
}

// VerifySignature gives the payload of a token that one of the issuer's keys
// signed.
func (k *keySet) VerifySignature(ctx context.Context, raw string) ([]byte, error) {
	allowed := make([]jose.SignatureAlgorithm, len(algorithms))
	for i, a := range algorithms {
		allowed[i] = jose.SignatureAlgorithm(a)
	}
	jws, err := jose.ParseSignedCompact(raw, allowed)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, ErrMalformed
	}
	header := jws.Signatures[0].Header
	keys, err := k.find(ctx, header.KeyID)
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if key.Algorithm != "" && key.Algorithm != header.Algorithm || key.Use != "" && key.Use != "sig" {
			continue
		}
		if payload, err := jws.Verify(key.Key); err == nil {
			return payload, nil
		}
	}
	return nil, ErrSignature
}

// find gives the keys of that ID, all of them when there is none. A key that is
// not known may be new, so the issuer is asked, but not for every token.
func (k *keySet) find(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, ErrUnavailable
	}
	now := k.now()
	found := withID(k.keys, id)
	if len(found) > 0 && now.Before(k.got.Add(freshFor)) {
		return found, nil
	}
	if now.Before(k.asked.Add(askEvery)) && !now.Before(k.asked) {
		return k.kept(found, now)
	}
	k.asked = now
	keys, err := k.fetch(ctx)
	if err != nil {
		return k.kept(found, now)
	}
	k.keys, k.got = keys, now
	return withID(keys, id), nil
}

// kept is what holds while the issuer is not asked or does not answer.
func (k *keySet) kept(found []jose.JSONWebKey, now time.Time) ([]jose.JSONWebKey, error) {
	if len(k.keys) == 0 || !now.Before(k.got.Add(keepFor)) {
		return nil, ErrUnavailable
	}
	return found, nil
}

func withID(keys []jose.JSONWebKey, id string) []jose.JSONWebKey {
	if id == "" {
		return keys
	}
	var found []jose.JSONWebKey
	for _, key := range keys {
		if key.KeyID == id {
			found = append(found, key)
		}
	}
	return found
}

func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	// The asker may go away; those who wait for its answer have not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
	defer cancel()
	d, err := discover(ctx, k.client, k.issuer)
	if err != nil {
		return nil, err
	}
	// Key by key: one of a kind that is not known here must not hide the others.
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := get(ctx, k.client, d.JWKSURL, &set); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, raw := range set.Keys[:min(len(set.Keys), maxKeys)] {
		var key jose.JSONWebKey
		if json.Unmarshal(raw, &key) == nil && key.Valid() && key.IsPublic() {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, ErrUnavailable
	}
	return keys, nil
}

// Discover reads an issuer's metadata, and insists that it speaks of itself.
func Discover(ctx context.Context, transport http.RoundTripper, issuer string) (Discovery, error) {
	return discover(ctx, newClient(transport), issuer)
}

func discover(ctx context.Context, client *http.Client, issuer string) (Discovery, error) {
	var d Discovery
	if err := get(ctx, client, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", &d); err != nil {
		return d, err
	}
	if d.Issuer != issuer {
		return d, fmt.Errorf("%w: its metadata speaks of another issuer", ErrUnavailable)
	}
	return d, nil
}

// get reads one small JSON document. Keys decide who is who, so they come over
// TLS, or from this very machine.
func get(ctx context.Context, client *http.Client, from string, into any) error {
	u, err := url.Parse(from)
	if err != nil || u.Scheme != "https" && (u.Scheme != "http" || !loopback(u.Hostname())) {
		return fmt.Errorf("%w: an address of it is not https", ErrUnavailable)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from, nil)
	if err != nil {
		return fmt.Errorf("%w: an address of it is none", ErrUnavailable)
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%w: it answered %d", ErrUnavailable, resp.StatusCode)
	case len(body) > maxDocument || json.Unmarshal(body, into) != nil:
		return fmt.Errorf("%w: it answered something else than JSON, or too much", ErrUnavailable)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost"
}

var errRedirect = errors.New("it redirects")

// newClient follows no redirect: metadata is where the standard says.
func newClient(transport http.RoundTripper) *http.Client {
	if transport == nil {
		transport = http.DefaultTransport
	}
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return errRedirect }}
}

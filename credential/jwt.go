package credential

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
)

// Claims of a token besides those of RFC 9068: the grant that it was minted for
// and that grant's task.
const (
	claimGrant = "exeat_grant"
	claimTask  = "exeat_task"
)

// reserved claims are the issuer's to say, never a capability's. Every other key
// of a capability's scope becomes a claim of that name, which makes the key
// scope the scope claim (RFC 9068 section 2.2.3).
var reserved = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true,
	"client_id": true, "cnf": true, "act": true, "may_act": true, "azp": true,
	"auth_time": true, "acr": true, "amr": true, claimGrant: true, claimTask: true,
}

// defaultTokenTTL of a provider that names none.
const defaultTokenTTL = time.Minute

// jwtProvider mints RFC 9068 access tokens signed by Exeat's own issuer.
type jwtProvider struct {
	issuer   *Issuer
	audience string
	ttl      time.Duration
	now      func() time.Time
}

// newJWT makes a provider of what the catalog says.
func newJWT(spec *v1alpha1.JWTProvider, issuer *Issuer, now func() time.Time) (*jwtProvider, error) {
	if issuer == nil {
		return nil, errors.New("this process has no issuer: configure one for jwt providers")
	}
	p := &jwtProvider{issuer: issuer, audience: spec.Audience, ttl: defaultTokenTTL, now: now}
	if spec.TTL != nil {
		p.ttl = spec.TTL.Duration
	}
	return p, nil
}

// Narrow asks for the capability's scope until the provider's TTL or the
// grant's end, whichever comes first, in whole seconds: never after the end.
func (p *jwtProvider) Narrow(r Request) (Ask, error) {
	a := Ask{
		ID: newID(r.Now), Grant: r.Grant.ID, Task: r.Grant.Task, Subject: r.Subject,
		Audience: p.audience, Scope: maps.Clone(r.Scope),
	}
	if r.Subject == "" || p.audience == "" {
		return a, errors.New("the agent's SPIFFE ID or the provider's audience is not known")
	}
	if len(r.Scope) == 0 {
		return a, errors.New("the capability's credential has no scope, and none is not all: name one under credential.scope")
	}
	for name, value := range r.Scope {
		if reserved[name] {
			return a, fmt.Errorf("credential.scope.%s: this claim is the issuer's to say; use another name", name)
		}
		if strings.TrimSpace(value) == "" {
			return a, fmt.Errorf("credential.scope.%s is empty, and empty is not all: name a value", name)
		}
	}
	end := r.Now.Add(p.ttl)
	if r.Grant.Until.Before(end) {
		end = r.Grant.Until
	}
	a.Expires = end.Truncate(time.Second)
	if !a.Expires.After(r.Now) {
		return a, errShort
	}
	return a, nil
}

// errShort: less than a second is left, too little for a token.
var errShort = errors.New("what is left of the grant is too short for a token")

// Mint signs. Nothing leaves this process, so an error leaves nothing behind.
func (p *jwtProvider) Mint(ctx context.Context, a Ask) (Minted, error) {
	claims := map[string]any{
		"iss": p.issuer.cfg.URL, "sub": a.Subject, "aud": a.Audience, "client_id": a.Subject,
		"jti": a.ID, "iat": p.now().Unix(), "exp": a.Expires.Unix(),
		claimGrant: string(a.Grant), claimTask: string(a.Task),
	}
	for name, value := range a.Scope {
		if reserved[name] {
			return Minted{}, fmt.Errorf("claim %s is reserved", name)
		}
		claims[name] = value
	}
	token, err := p.issuer.Sign(ctx, "at+jwt", claims, a.Expires)
	if err != nil {
		return Minted{}, err
	}
	return Minted{
		Handle:  a.ID,
		Headers: []Header{{Name: "authorization", Value: policy.NewSecret("Bearer " + token.Expose())}},
		Granted: a.Scope, Expires: a.Expires,
	}, nil
}

// Apply puts the token on the call (RFC 6750 section 2.1).
func (p *jwtProvider) Apply(_ context.Context, m Minted, _ *policy.Call) ([]Header, error) {
	return m.Headers, nil
}

// Revoke can do nothing: whoever verifies such a token asks nobody.
func (p *jwtProvider) Revoke(context.Context, string) (Outcome, error) { return ExpiresOnly, nil }

package credential

import (
	"context"
	"errors"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Errors. Callers test with errors.Is; none of them ever holds a secret.
var (
	// ErrNotMinted: the grant has no credential yet.
	ErrNotMinted = errors.New("credential is not minted yet")
	// ErrExpired: the grant's credential has expired and no fresh one came.
	ErrExpired = errors.New("credential has expired")
	// ErrStale: the credential was minted for something else than what the
	// catalog in force asks for.
	ErrStale = errors.New("credential was minted under another catalog")
	// ErrSealed: the sealed credential cannot be opened with this key.
	ErrSealed = errors.New("sealed value cannot be opened")
	// ErrWider: the upstream returned more than was asked for.
	ErrWider = errors.New("upstream returned more than was asked for")
	// ErrUnknown, wrapped by an error of Mint: something may have been minted.
	ErrUnknown = errors.New("outcome of minting is unknown")
)

// Header is one header that goes on a call.
type Header struct {
	Name  string // lower case
	Value policy.Secret
}

// Request is what a grant's credential is minted from.
type Request struct {
	Grant policy.Grant
	// Subject is the agent's SPIFFE ID.
	Subject string
	Scope   map[string]string
	Now     time.Time
}

// Ask is what will be asked of the upstream: a Request narrowed.
type Ask struct {
	// ID names this credential before it exists; no other ever has it.
	ID       string
	Grant    policy.GrantID
	Task     policy.TaskID
	Subject  string
	Audience string
	// Scope is never empty where the provider knows scopes: nothing listed is
	// nothing allowed, never everything.
	Scope map[string]string
	// Expires is the latest end; zero when the credential does not expire.
	Expires time.Time
}

// Minted is a credential and what the upstream says that it is.
type Minted struct {
	// Handle is its public name, by which it is revoked.
	Handle  string
	Headers []Header
	// Granted is what the upstream says that it may do; compared with Ask.Scope.
	Granted map[string]string
	// Expires is zero when it does not expire.
	Expires time.Time
	// Injected: a standing secret, not minted for the grant.
	Injected bool
}

// Outcome of a revocation. Never a boolean: most upstreams cannot simply revoke.
type Outcome string

// The outcomes.
const (
	Revoked     Outcome = "revoked"
	ExpiresOnly Outcome = "expires_only"
	Unsupported Outcome = "unsupported"
	Failed      Outcome = "failed"
)

// Provider is a way to mint a credential.
type Provider interface {
	// Narrow says what will be asked for. It is pure.
	Narrow(Request) (Ask, error)
	// Mint asks for it. After an error nothing was minted, unless the error
	// wraps ErrUnknown.
	Mint(ctx context.Context, ask Ask) (Minted, error)
	// Apply gives the headers for one call.
	Apply(ctx context.Context, m Minted, call *policy.Call) ([]Header, error)
	// Revoke takes back what has the handle.
	Revoke(ctx context.Context, handle string) (Outcome, error)
}

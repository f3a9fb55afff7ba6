package policy

import "errors"

// Reason says why a call was decided as it was. It is one closed enum, used in
// the API, in metrics and in audit. The zero value is Internal, a denial.
type Reason uint8

// The reasons. Only Allowed lets a call out.
const (
	Internal Reason = iota
	Allowed
	NoGrant
	UnknownAgent
	UnknownTask
	AgentSuspended
	UnknownDestination
	CallNotGranted
	QueryNotGranted
	BodyNotGranted
	GrantExpired
	GrantEnded
	ApprovalPending
	UsesExhausted
	Replayed
	RateLimited
	PolicyDenied
	CredentialUnavailable
	MalformedCall
	StateStale
	AuditUnavailable
	Overloaded
	reasonCount // not a reason: how many there are
)

var reasonNames = [reasonCount]string{
	"internal", "allowed", "no_grant", "unknown_agent", "unknown_task", "agent_suspended",
	"unknown_destination", "call_not_granted", "query_not_granted", "body_not_granted",
	"grant_expired", "grant_ended", "approval_pending", "uses_exhausted", "replayed",
	"rate_limited", "policy_denied", "credential_unavailable", "malformed_call",
	"state_stale", "audit_unavailable", "overloaded",
}

// String gives the reason's name in the API, metrics and audit; a value
// outside the enum reads as internal.
func (r Reason) String() string {
	if r >= reasonCount {
		return reasonNames[Internal]
	}
	return reasonNames[r]
}

// ParseReason finds a reason by its name; false, and Internal, for another text.
func ParseReason(name string) (Reason, bool) {
	for r, n := range reasonNames {
		if n == name {
			return Reason(r), true
		}
	}
	return Internal, false
}

// UnmarshalText reads a name.
func (r *Reason) UnmarshalText(text []byte) error {
	parsed, ok := ParseReason(string(text))
	if !ok {
		return errReason
	}
	*r = parsed
	return nil
}

var errReason = errors.New("not a reason")

// MarshalText writes the name.
func (r Reason) MarshalText() ([]byte, error) { return []byte(r.String()), nil }

// Retry says what a denied caller may do.
type Retry string

// The retries. An agent that is told never should stop.
const (
	RetryNever        Retry = "never"
	RetryAfter        Retry = "after"
	RetryRequestGrant Retry = "request_grant"
)

// Retry gives what the caller may do about a denial for this reason.
func (r Reason) Retry() Retry {
	switch r {
	case NoGrant, CallNotGranted, QueryNotGranted, BodyNotGranted, GrantExpired, GrantEnded, UsesExhausted:
		return RetryRequestGrant
	case ApprovalPending, RateLimited, CredentialUnavailable, StateStale, AuditUnavailable, Overloaded, Internal:
		return RetryAfter
	default:
		return RetryNever
	}
}

// ByAgent reports whether a denial for this reason is of the agent's own doing,
// and so counts towards its suspension. What Exeat, a person or the state of the
// system brings about does not.
func (r Reason) ByAgent() bool {
	switch r {
	case NoGrant, UnknownDestination, CallNotGranted, QueryNotGranted, BodyNotGranted, GrantExpired, GrantEnded,
		UsesExhausted, Replayed, RateLimited, PolicyDenied, MalformedCall:
		return true
	}
	return false
}

// Status is the HTTP status (RFC 9110 section 15) of a denial for this reason.
func (r Reason) Status() int {
	switch r {
	case MalformedCall:
		return 400
	case RateLimited:
		return 429
	case CredentialUnavailable, StateStale, AuditUnavailable, Overloaded, Internal:
		return 503
	default:
		return 403
	}
}

var reasonTitles = [reasonCount]string{
	Internal:              "The decision failed",
	Allowed:               "Allowed",
	NoGrant:               "No active grant for this destination",
	UnknownAgent:          "No agent is known by this identity",
	UnknownTask:           "No such task of this agent",
	AgentSuspended:        "The agent is suspended",
	UnknownDestination:    "Not a destination of the catalog",
	CallNotGranted:        "No active grant covers this call",
	QueryNotGranted:       "The grant does not cover this query",
	BodyNotGranted:        "The grant does not cover a body",
	GrantExpired:          "The grant has expired",
	GrantEnded:            "The grant has ended",
	ApprovalPending:       "The grant awaits approval",
	UsesExhausted:         "The uses of the grant are spent",
	Replayed:              "This call was made before",
	RateLimited:           "Too many calls",
	PolicyDenied:          "Denied by policy",
	CredentialUnavailable: "The credential of the grant is not available",
	MalformedCall:         "The call is malformed or ambiguous",
	StateStale:            "The decision would rest on stale state",
	AuditUnavailable:      "The decision cannot be recorded",
	Overloaded:            "Too many decisions at once",
}

// Title says the reason in words (RFC 9457 section 3.1.3): the same for every
// denial of this reason.
func (r Reason) Title() string {
	if r >= reasonCount {
		return reasonTitles[Internal]
	}
	return reasonTitles[r]
}

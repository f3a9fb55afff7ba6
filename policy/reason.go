package policy

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

package policy

import "strings"

// TaskID is "t_" and a ULID; GrantID is "g_" and a ULID.
type (
	TaskID  string
	GrantID string
)

// Instance is one running sidecar, named by its whole SPIFFE ID.
type Instance string

// State of a task or grant. The zero value is none of them and permits nothing.
type State uint8

// The states. A paused task keeps its place but holds no active grants.
const (
	StateNone State = iota
	Pending
	Active
	Ended
	Paused
)

// String gives the state's name in the API and in audit.
func (s State) String() string {
	return [...]string{"none", "pending", "active", "ended", "paused"}[min(s, Paused)]
}

// EndReason says why a grant or task ended; empty while it has not.
type EndReason string

// The end reasons.
const (
	EndRefused        EndReason = "refused"
	EndWithdrawn      EndReason = "withdrawn"
	EndRequestExpired EndReason = "request_expired"
	EndExpired        EndReason = "expired"
	EndCompleted      EndReason = "completed"
	EndFailed         EndReason = "failed"
	EndRevoked        EndReason = "revoked"
	EndParentEnded    EndReason = "parent_ended"
	EndAgentSuspended EndReason = "agent_suspended"
	EndPolicyChanged  EndReason = "policy_changed"
	EndContextChanged EndReason = "context_changed"
)

// Task is the unit of work that grants are bound to. It belongs to the
// instance that started it.
type Task struct {
	ID       TaskID
	Agent    string
	Instance Instance
	Type     string
	// Purpose and Context are what the agent says of itself; never trusted.
	Purpose string
	Context map[string]string
	// StartedBy is the identity that started the task.
	StartedBy string
	Life
	// Credential is the password half of the task's proxy credential: 256
	// random bits, base64url without padding. The user half is the task's ID.
	Credential Secret
}

// Grant is one capability with its parameters filled in, held by one agent
// for one task until it ends.
type Grant struct {
	ID         GrantID
	Task       TaskID
	Agent      string
	Owner      []string
	Instance   Instance
	Capability string
	Params     map[string]string
	// Destination is the capability's, so that cutting needs no catalog.
	Destination string
	Life
	// Digest over the resolved capability; a catalog under which it would be
	// another one does not serve this grant.
	Digest string
	// Catalog is the revision under which it was decided.
	Catalog string
	// Approval is the request that people decide or decided on; empty when
	// nobody was asked.
	Approval ApprovalID
	// MaxUses is how many calls it authorises at most; 0: any number.
	MaxUses int64
	// Chain holds the grants that it descends from, the root first; empty for
	// one that was not delegated. Each use is a use of all of them.
	Chain []GrantID
}

// Valid reports whether id is a prefix and a ULID, as Exeat makes them.
func (id GrantID) Valid() bool { return validID(string(id), "g_") }

// Valid reports whether id is a prefix and a ULID, as Exeat makes them.
func (id TaskID) Valid() bool { return validID(string(id), "t_") }

// validID takes the one spelling of a ULID: 26 characters of Crockford's
// base32 in capitals, the first at most 7 (it holds three bits).
func validID(id, prefix string) bool {
	s, ok := strings.CutPrefix(id, prefix)
	if !ok || len(s) != 26 || s[0] > '7' {
		return false
	}
	for i := 0; i < len(s); i++ {
		if strings.IndexByte("0123456789ABCDEFGHJKMNPQRSTVWXYZ", s[i]) < 0 {
			return false
		}
	}
	return true
}

package audit

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/exeat-dev/exeat/policy"
)

// Subject is whom and what a record is about. What is not known stays empty.
type Subject struct {
	Agent       string
	Owner       []string // groups
	Instance    policy.Instance
	Task        policy.TaskID
	Grant       policy.GrantID
	Capability  string
	Destination string
}

// SubjectOf gives the subject that a grant is.
func SubjectOf(g *policy.Grant) Subject {
	return Subject{
		Agent: g.Agent, Owner: g.Owner, Instance: g.Instance, Task: g.Task,
		Grant: g.ID, Capability: g.Capability, Destination: g.Destination,
	}
}

// Call is the call that a record is about. Of the query only the names are
// written; values may be secrets.
type Call struct {
	Method, Scheme, Host string
	Port                 uint16
	Path                 string
	Query                []policy.QueryParam
}

// CallOf takes what is recorded of a parsed call.
func CallOf(c *policy.Call) Call {
	return Call{Method: c.Method, Scheme: c.Scheme, Host: c.Host, Port: c.Port, Path: c.Path, Query: c.Query}
}

// Decision is one answer to one call.
type Decision struct {
	ID   string // as NewDecisionID makes them
	Time time.Time
	Subject
	Call   Call
	Reason policy.Reason
	// Removed names the request headers that do not pass.
	Removed []string
	// Request is Envoy's x-request-id.
	Request string
	// Catalog and Store are the revisions that were decided on.
	Catalog string
	Store   int64
	// Policy names what decided besides the capability's rules; may be empty.
	Policy string
	// Next is what the agent was told that it may do.
	Next []policy.Next
}

// NewDecisionID gives "d_" and a ULID of the time. It takes no lock; the ID is
// unique, not a secret.
func NewDecisionID(at time.Time) string {
	var id ulid.ULID
	// Before 1970 or after 10889 there is no ULID; the ID stays unique.
	_ = id.SetTime(ulid.Timestamp(at))
	binary.BigEndian.PutUint64(id[8:], rand.Uint64())
	binary.BigEndian.PutUint16(id[6:], uint16(rand.Uint32()))
	return "d_" + id.String()
}

// Transition is a change of a task's state or, when Grant is set, a grant's.
type Transition struct {
	Time time.Time
	Subject
	From, To policy.State
	// Until is when it ends by itself, if active.
	Until time.Time
	// End is why it ended, empty when it did not.
	End policy.EndReason
	// By is who did it: a SPIFFE ID, a person, or Exeat's own part ("sweeper").
	By string
	// Why is in words, for people.
	Why     string
	Digest  string
	Catalog string
	Store   int64
	// Recovered: written from the store, because the first record was lost.
	Recovered bool
}

// ApprovalAction is what happened to a request that people decide on.
type ApprovalAction string

// The approval actions. ApprovalApproved is one person's yes.
const (
	ApprovalRequested ApprovalAction = "requested"
	ApprovalApproved  ApprovalAction = "approved"
	ApprovalRefused   ApprovalAction = "refused"
	ApprovalWithdrawn ApprovalAction = "withdrawn"
	ApprovalRestarted ApprovalAction = "restarted"
	ApprovalEnded     ApprovalAction = "ended"
)

// ApprovalEvent says what happened to a request that people decide on. Its
// subject names the grant when there is only one.
type ApprovalEvent struct {
	Time time.Time
	Subject
	Approval policy.ApprovalID
	Action   ApprovalAction
	// By is who did it, Why what they said.
	By, Why string
	// Digest is that of the request as it then was.
	Digest  string
	Catalog string
	// Given and Wanted count people.
	Given, Wanted int
}

// CredentialAction is what was done about a credential.
type CredentialAction string

// The credential actions.
const (
	CredentialMinted    CredentialAction = "minted"
	CredentialRefreshed CredentialAction = "refreshed"
	CredentialRevoked   CredentialAction = "revoked"
)

// CredentialEvent says that a credential was minted, refreshed or revoked. It
// never holds the credential.
type CredentialEvent struct {
	Time time.Time
	Subject
	Action   CredentialAction
	Provider string
	// Outcome: minted, injected or failed; of a revocation revoked,
	// expires_only, unsupported or failed.
	Outcome string
	// Handle is the credential's public name, such as a token's jti.
	Handle  string
	Expires time.Time
	// Outlives is how long the credential still works after its grant's end.
	Outlives time.Duration
	// Detail says in words what failed.
	Detail string
}

// Outcome is how a call ended, as the sidecar's access log tells it. Without a
// Decision it is a call that never came to a decision.
type Outcome struct {
	Time     time.Time
	Decision string
	Subject
	Call    Call
	Request string
	// Status is the HTTP response code, 0 when none was sent.
	Status int
	// Details and Flags are Envoy's response code details and response flags.
	Details string
	Flags   []string
	// Sent and Received are body bytes to and from the upstream.
	Sent, Received uint64
	Duration       time.Duration
}

// ConfigEvent says that a sidecar accepted or rejected configuration.
type ConfigEvent struct {
	Time time.Time
	Subject
	Accepted bool
	// Resource is the type, such as listeners; Version the one in question.
	Resource, Version string
	// Error is the sidecar's words for a rejection.
	Error string
}

// GapKind says why the record is incomplete at some place.
type GapKind string

// The gap kinds. The last three are signs of tampering.
const (
	// GapRestored: the store was put back from a backup. What it held in between
	// is in this log alone, and everything in it has ended.
	GapRestored GapKind = "restored"
	// GapUnwritable: the disk refused or hung; Denied decisions were denied
	// for it, Kept records follow, Lost ones do not.
	GapUnwritable GapKind = "unwritable"
	// GapCrash: the process died without closing the log, and so may have lost
	// transitions, outcomes and credential records. Decisions are complete.
	GapCrash GapKind = "crash"
	// GapTorn: the log ended in something that is no record, which was moved
	// to a file beside it.
	GapTorn GapKind = "torn"
	// GapTruncated: the log ended before its signed head.
	GapTruncated GapKind = "truncated"
	// GapBroken: a record up to the signed head is not as it was written.
	GapBroken GapKind = "broken"
	// GapHead: the head is missing or its signature is wrong.
	GapHead GapKind = "head"
)

// Tampering reports whether such a gap only comes from outside interference.
func (k GapKind) Tampering() bool { return k == GapTruncated || k == GapBroken || k == GapHead }

// Gap is a place where the record is, or was for a while, incomplete.
type Gap struct {
	Time         time.Time
	Kind         GapKind
	Since, Until time.Time
	Denied       int   // decisions that could not be written and were denied
	Kept         int   // records that were written late
	Lost         int   // records that were dropped
	Bytes        int64 // of what was no record
	Detail       string
}

// Tally is what a task did, counted. What was lost to a restart long ago or to
// the bound on tasks is not in it.
type Tally struct {
	Allowed int
	Denied  map[policy.Reason]int
	// Credentials by outcome.
	Minted, Injected, MintFailed int
	// Revocations by outcome.
	Revoked, ExpiresOnly, Unsupported, RevokeFailed int
	// Ended calls, and body bytes to and from upstreams.
	Calls          int
	Sent, Received uint64
}

// Denial is a denied call as its agent may know it.
type Denial struct {
	// N counts a task's denials from 1.
	N           int
	ID          string
	Time        time.Time
	Reason      policy.Reason
	Method      string
	URL         string // without query
	Destination string
	Capability  string
	Next        []policy.Next
}

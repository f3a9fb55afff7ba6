package client

import (
	"encoding/json"
	"time"
)

// Secret is a string that must not be shown: it prints as [secret] and cannot
// be marshalled.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Expose gives the text.
func (s Secret) Expose() string { return s.text }

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s.text == "" }

// String hides the text.
func (Secret) String() string { return "[secret]" }

// GoString hides the text from %#v.
func (Secret) GoString() string { return "[secret]" }

// UnmarshalJSON reads a JSON string.
func (s *Secret) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &s.text) }

// MarshalJSON always fails: a secret leaves through Expose alone.
func (Secret) MarshalJSON() ([]byte, error) { return nil, errSecret }

// Claimed is what an agent says of itself; kept and shown, never trusted.
type Claimed struct {
	Purpose string            `json:"purpose,omitempty"`
	Context map[string]string `json:"context,omitempty"`
}

// TaskRequest asks for a task. Timeout is 1h when zero and at most 24h.
type TaskRequest struct {
	Type    string
	Claimed Claimed
	Timeout time.Duration
}

// Task is a unit of work that grants are bound to.
type Task struct {
	ID        string    `json:"id"`
	Agent     string    `json:"agent"`
	Instance  string    `json:"instance"`
	Type      string    `json:"type"`
	Claimed   Claimed   `json:"claimed"`
	StartedBy string    `json:"startedBy"`
	State     string    `json:"state"` // pending, active, paused or ended
	StartedAt time.Time `json:"startedAt"`
	Until     time.Time `json:"until"`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	EndReason string    `json:"endReason,omitempty"`
	// Grants are there when one task was read.
	Grants []Grant `json:"grants,omitempty"`
	// Credential is there when the task was started, and never again: the
	// password of its proxy credential, whose user is ID.
	Credential Secret `json:"credential,omitzero"`
}

// GrantRequest asks for a grant. TTL and MaxUses are the capability's own when zero; Wait is
// how long the reply may wait for the grant to be ready, 10s when zero.
type GrantRequest struct {
	Task       string
	Capability string
	Params     map[string]string
	TTL        time.Duration
	MaxUses    int64
	Wait       time.Duration
}

// Grant is one capability with its parameters filled in, held for one task.
type Grant struct {
	ID          string            `json:"id"`
	Task        string            `json:"task"`
	Agent       string            `json:"agent"`
	Instance    string            `json:"instance"`
	Capability  string            `json:"capability"`
	Params      map[string]string `json:"params,omitempty"`
	Destination string            `json:"destination"`
	State       string            `json:"state"` // pending, active or ended
	// Ready: the very next call under the grant succeeds.
	Ready bool `json:"ready"`
	// Waiting says what a grant that is not ready waits for, Detail the
	// same in words, or why it failed.
	Waiting string `json:"waiting,omitempty"`
	Detail  string `json:"detail,omitempty"`
	// Approval is the request that people decide or decided on; Next says what
	// to do while they do.
	Approval    string    `json:"approval,omitempty"`
	Next        []Next    `json:"next,omitempty"`
	RequestedAt time.Time `json:"requestedAt"`
	Until       time.Time `json:"until"`
	EndedAt     time.Time `json:"endedAt,omitzero"`
	EndReason   string    `json:"endReason,omitempty"`
	Catalog     string    `json:"catalog"`
	// MaxUses is how many calls it authorises at most, 0 any number; Used how
	// many it has authorised, if that is limited.
	MaxUses int64 `json:"maxUses,omitempty"`
	Used    int64 `json:"used,omitempty"`
}

// Ending says how far an ending is. From AcceptedAt nothing brings it back.
type Ending struct {
	AcceptedAt time.Time `json:"acceptedAt"`
	// Enforced: no replica allows a call any more, no older check still runs,
	// and the streams are closed.
	Enforced   bool      `json:"enforced"`
	EnforcedAt time.Time `json:"enforcedAt,omitzero"`
	// BoundAt is when the last open stream ends by itself, if that was not
	// confirmed; Waiting says by whom.
	BoundAt time.Time `json:"boundAt,omitzero"`
	Waiting string    `json:"waiting,omitempty"`
}

// EndedGrant is a grant and how far its ending is.
type EndedGrant struct {
	Grant  Grant  `json:"grant"`
	Ending Ending `json:"ending"`
}

// Receipt is what a task did.
type Receipt struct {
	Task        Task        `json:"task"`
	Ending      Ending      `json:"ending"`
	Grants      []Grant     `json:"grants"`
	Calls       Calls       `json:"calls"`
	Credentials Credentials `json:"credentials"`
}

// Calls counts calls by their decision, denied ones by reason.
type Calls struct {
	Allowed int            `json:"allowed"`
	Denied  map[string]int `json:"denied,omitempty"`
}

// Total is the number of calls that were decided on.
func (c Calls) Total() int {
	n := c.Allowed
	for _, denied := range c.Denied {
		n += denied
	}
	return n
}

// Credentials counts credentials by what became of them. Injected ones are
// standing secrets and outlive the task.
type Credentials struct {
	Minted      int `json:"minted"`
	Injected    int `json:"injected"`
	MintFailed  int `json:"mintFailed"`
	Revoked     int `json:"revoked"`
	ExpiresOnly int `json:"expiresOnly"` // end by themselves alone
	Unsupported int `json:"unsupported"` // cannot be taken back at all
	Failed      int `json:"failed"`      // taking them back failed
	Pending     int `json:"pending"`     // taking them back goes on
}

// Capabilities is what one agent may ask for under one catalog.
type Capabilities struct {
	Agent        string       `json:"agent"`
	Catalog      string       `json:"catalog"` // revision
	Capabilities []Capability `json:"capabilities"`
}

// Capability is one thing that an agent may ask for.
type Capability struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Risk        string   `json:"risk"`
	Sensitivity string   `json:"sensitivity"`
	Destination string   `json:"destination"`
	TTL         Duration `json:"ttl"`
	MaxTTL      Duration `json:"maxTTL"`
	MaxUses     int64    `json:"maxUses,omitempty"` // of one grant; 0: any number
	Rate        *Rate    `json:"rate,omitempty"`    // nil: any
	Bytes       int64    `json:"bytes,omitempty"`   // of one grant's calls; 0: any number
	// Schema is the JSON Schema (2020-12) of the parameters for this agent.
	Schema json.RawMessage `json:"schema"`
}

// Rate bounds calls per time.
type Rate struct {
	Calls int64    `json:"calls"`
	Per   Duration `json:"per"`
}

// Denial is a denied call.
type Denial struct {
	N           int       `json:"n"` // counts the task's denials from 1
	Decision    string    `json:"decision"`
	Time        time.Time `json:"time"`
	Reason      string    `json:"reason"`
	Retry       string    `json:"retry"` // never, after or request_grant
	Method      string    `json:"method"`
	URL         string    `json:"url"` // without its query
	Destination string    `json:"destination,omitempty"`
	Capability  string    `json:"capability,omitempty"`
	Next        []Next    `json:"next,omitempty"`
}

// Next is something that an agent can do about a denial.
type Next struct {
	Action     string            `json:"action"`
	Capability string            `json:"capability,omitempty"`
	Params     map[string]string `json:"params,omitempty"`
	Approval   string            `json:"approval,omitempty"`
	Address    string            `json:"address,omitempty"`
}

// Sidecar is a connected sidecar and how far its configuration is: what was
// granted and what was ended up to which store revision is in force.
type Sidecar struct {
	Instance string `json:"instance"`
	Agent    string `json:"agent,omitempty"`
	Ready    int64  `json:"ready"`
	Cut      int64  `json:"cut"`
	Rejected string `json:"rejected,omitempty"`
	Version  string `json:"version,omitempty"`
}

// Duration is a length of time as the API writes it, such as 1h30m0s.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = Duration(v)
	return err
}

// MarshalText writes it as time.Duration prints it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// String prints it as time.Duration does.
func (d Duration) String() string { return time.Duration(d).String() }

// ExplainRequest asks what would become of a call.
type ExplainRequest struct {
	Agent  string `json:"agent,omitempty"` // for operators: whose call it is
	Task   string `json:"task,omitempty"`  // within which task; all live ones when empty
	Method string `json:"method"`
	URL    string `json:"url"`
	Body   bool   `json:"body,omitempty"` // the call carries one
}

// Explained says what would become of a call, within each task that was
// looked at; within none when there is none.
type Explained struct {
	Agent string          `json:"agent"`
	Call  Call            `json:"call"`
	Tasks []ExplainedTask `json:"tasks"`
}

// Call is a method and a URL without its query.
type Call struct {
	Method string `json:"method"`
	URL    string `json:"url"`
}

// ExplainedTask is the answer within one task.
type ExplainedTask struct {
	Task    string           `json:"task,omitempty"`
	Allowed bool             `json:"allowed"`
	Reason  string           `json:"reason"`
	Grant   string           `json:"grant,omitempty"` // that allows it, or came closest
	Grants  []ExplainedGrant `json:"grants,omitempty"`
	Next    []Next           `json:"next,omitempty"`
	// Rule of a policy that denies what the grant covers, and what it says.
	Rule     string   `json:"rule,omitempty"`
	Messages []string `json:"messages,omitempty"`
}

// ExplainedGrant is one grant that the call was held against.
type ExplainedGrant struct {
	Grant      string          `json:"grant"`
	Capability string          `json:"capability"`
	Covers     bool            `json:"covers"`
	Standing   string          `json:"standing"` // allowed, or why it serves no call
	Rules      []ExplainedRule `json:"rules,omitempty"`
}

// ExplainedRule is one rule and the first part of it that does not fit: method,
// host, path, query or body. Without a Part it covers the call.
type ExplainedRule struct {
	Rule string `json:"rule"`
	Part string `json:"part,omitempty"`
	Want string `json:"want,omitempty"`
}

// RecordedDecision is a decision as the audit log holds it.
type RecordedDecision struct {
	Decision    string           `json:"decision"`
	Time        time.Time        `json:"time"`
	Allowed     bool             `json:"allowed"`
	Reason      string           `json:"reason"`
	Agent       string           `json:"agent,omitempty"`
	Owner       []string         `json:"owner,omitempty"`
	Instance    string           `json:"instance,omitempty"`
	Task        string           `json:"task,omitempty"`
	Grant       string           `json:"grant,omitempty"`
	Capability  string           `json:"capability,omitempty"`
	Destination string           `json:"destination,omitempty"`
	Method      string           `json:"method"`
	URL         string           `json:"url"`             // without its query
	Query       []string         `json:"query,omitempty"` // names; values are not recorded
	Removed     []string         `json:"removed,omitempty"`
	Catalog     string           `json:"catalog,omitempty"`
	Policy      string           `json:"policy,omitempty"`
	Next        []Next           `json:"next,omitempty"`
	Outcome     *RecordedOutcome `json:"outcome,omitempty"` // nil until the sidecar has told
}

// RecordedOutcome is how a call ended.
type RecordedOutcome struct {
	Time     time.Time `json:"time"`
	Status   int       `json:"status"` // 0 when none was sent
	Details  string    `json:"details,omitempty"`
	Flags    []string  `json:"flags,omitempty"`
	Sent     uint64    `json:"sent"`     // body bytes to the upstream
	Received uint64    `json:"received"` // body bytes from the upstream
}

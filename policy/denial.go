package policy

import (
	"encoding/json"
	"time"
)

// ProblemBase is what the type of each denial begins with; its reason follows.
const ProblemBase = "https://exeat.dev/problems/"

// ProblemType is the media type of a denial (RFC 9457).
const ProblemType = "application/problem+json"

// Denial is the body of a denied call (RFC 9457). It tells the agent what to
// do next and nothing about others.
type Denial struct {
	Type     string      `json:"type"`
	Title    string      `json:"title"`
	Status   int         `json:"status"`
	Reason   Reason      `json:"reason"`
	Decision string      `json:"decision,omitempty"`
	Call     *DenialCall `json:"call,omitempty"` // absent when it could not be read
	Retry    Retry       `json:"retry"`
	// RetryAfter is in seconds; present only when Retry is RetryAfter.
	RetryAfter int `json:"retryAfter,omitempty"`
	// Rule of the policy that denied, and what it says; only with policy_denied.
	Rule     string   `json:"rule,omitempty"`
	Messages []string `json:"messages,omitempty"`
	Next     []Next   `json:"next,omitempty"`
}

// DenialCall is the call that was denied, its query removed: it may hold secrets.
type DenialCall struct {
	Method string `json:"method"`
	URL    string `json:"url"`
}

// NewDenial builds the answer to a denied call. id is the decision's; call may
// be nil; after is rounded up to whole seconds, at least one, and only said
// where waiting helps. A decision that allows is built as an internal denial:
// it must not get here.
func NewDenial(d Decision, id string, call *Call, after time.Duration) Denial {
	reason := d.Reason
	if reason == Allowed || reason >= reasonCount {
		reason = Internal
	}
	out := Denial{
		Type: ProblemBase + reason.String(), Title: reason.Title(), Status: reason.Status(),
		Reason: reason, Decision: id, Retry: reason.Retry(), Next: d.Next,
	}
	if d.Policy != nil && reason == PolicyDenied {
		out.Rule, out.Messages = d.Policy.Rule, d.Policy.Messages
	}
	if call != nil && call.ok {
		out.Call = &DenialCall{Method: call.Method, URL: call.URL()}
	}
	if out.Retry == RetryAfter {
		out.RetryAfter = max(1, int((after+time.Second-1)/time.Second))
	}
	return out
}

// ProblemJSON is the body, to be sent as ProblemType.
func (d Denial) ProblemJSON() []byte {
	b, err := json.Marshal(d)
	if err != nil { // no field can fail; if one ever does, this is still a denial
		return []byte(`{"type":"` + ProblemBase + `internal","status":503,"reason":"internal","retry":"after"}`)
	}
	return b
}

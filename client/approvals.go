package client

import (
	"context"
	"net/http"
	"net/url"
	"time"
)

// Approval is a request that people decide on. What it holds of the agent's own
// words is in Claimed.
type Approval struct {
	ID string `json:"id"`
	// State is pending, approved, refused, withdrawn, request_expired or how
	// else its grants ended.
	State string `json:"state"`
	// Digest is over all that the request means; what is approved is this.
	Digest      string         `json:"digest"`
	Agent       string         `json:"agent"`
	Owner       []string       `json:"owner"`
	Instance    string         `json:"instance"`
	Task        string         `json:"task"`
	TaskType    string         `json:"taskType"`
	Claimed     Claimed        `json:"claimed"`
	RequestedBy string         `json:"requestedBy"`
	StartedBy   string         `json:"startedBy"`
	RequestedAt time.Time      `json:"requestedAt"`
	ExpiresAt   time.Time      `json:"expiresAt"`
	Round       int            `json:"round"`
	Why         []string       `json:"why"`
	Items       []ApprovalItem `json:"items"`
	Rule        ApprovalRule   `json:"rule"`
	// Given is how many people of one issuer have approved.
	Given     int            `json:"given"`
	Votes     []ApprovalVote `json:"votes"`
	Holds     []ApprovalHeld `json:"holds"`
	DecidedAt time.Time      `json:"decidedAt,omitzero"`
	DecidedBy string         `json:"decidedBy,omitempty"`
	Comment   string         `json:"comment,omitempty"`
	// Mine says why you cannot approve it; nil when you can, or are no person.
	Mine *ApprovalMine `json:"mine,omitempty"`
}

// ApprovalItem is one grant of a request, as it would be.
type ApprovalItem struct {
	Grant       string            `json:"grant"`
	State       string            `json:"state"`
	Capability  string            `json:"capability"`
	Description string            `json:"description,omitempty"`
	Risk        string            `json:"risk"`
	Sensitivity string            `json:"sensitivity"`
	Params      map[string]string `json:"params,omitempty"`
	Destination string            `json:"destination"`
	// Calls that it opens; Adds are those that nothing of the task opens yet.
	Calls    []string          `json:"calls"`
	Adds     []string          `json:"adds"`
	Provider string            `json:"provider,omitempty"`
	Scope    map[string]string `json:"scope,omitempty"`
	TTL      Duration          `json:"ttl"`
	MaxUses  int64             `json:"maxUses,omitempty"` // 0: any number
}

// ApprovalRule is what people must say yes: Count of one issuer, each in at
// least one of every list of Groups.
type ApprovalRule struct {
	Count  int        `json:"count"`
	Groups [][]string `json:"groups"`
	StepUp *StepUp    `json:"stepUp,omitempty"`
}

// StepUp says how recently and how an approver must have authenticated.
type StepUp struct {
	MaxAge Duration `json:"maxAge"`
	ACR    string   `json:"acr,omitempty"`
}

// ApprovalVote is one person's yes.
type ApprovalVote struct {
	Name    string    `json:"name"`
	Issuer  string    `json:"issuer"`
	Subject string    `json:"subject"`
	At      time.Time `json:"at"`
	Comment string    `json:"comment,omitempty"`
	TTL     Duration  `json:"ttl,omitzero"`
	MaxUses int64     `json:"maxUses,omitempty"`
}

// ApprovalHeld is an active grant of the same task.
type ApprovalHeld struct {
	Grant      string            `json:"grant"`
	Capability string            `json:"capability"`
	Params     map[string]string `json:"params,omitempty"`
	Until      time.Time         `json:"until"`
	Calls      []string          `json:"calls"`
}

// ApprovalMine says why the caller cannot approve a request.
type ApprovalMine struct {
	Code   string `json:"code"`
	Detail string `json:"detail"`
}

// Ballot is what a person says of a request. Digest is that of what they saw;
// TTL and MaxUses narrow it when they are not zero. Code is for the operator's
// socket: the one on exeatd's own terminal.
type Ballot struct {
	Digest  string
	Comment string
	TTL     time.Duration
	MaxUses int64
	Code    string
}

// Issuer is a place where people sign in.
type Issuer struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"clientID"`
	Scopes   []string `json:"scopes"`
}

// RequestGrants asks for several grants of one task as one: all are given, or
// approved by people, or none. Each waits as long as the first says.
func (c *Client) RequestGrants(ctx context.Context, rs ...GrantRequest) ([]Grant, error) {
	list := make([]grantForm, len(rs))
	var wait time.Duration
	for i, r := range rs {
		list[i], wait = grantForm{r.Task, r.Capability, r.Params, duration(r.TTL), r.MaxUses}, rs[0].Wait
	}
	var out struct {
		Grants []Grant `json:"grants"`
	}
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/grants", query: waiting(wait), in: list, out: &out, wait: wait})
	return out.Grants, err
}

// grantForm is a request as it is sent.
type grantForm struct {
	Task       string            `json:"task"`
	Capability string            `json:"capability"`
	Params     map[string]string `json:"params,omitempty"`
	TTL        string            `json:"ttl,omitempty"`
	MaxUses    int64             `json:"maxUses,omitempty"`
}

// Approvals lists requests that you may view: those that wait for people, or
// all that are not forgotten.
func (c *Client) Approvals(ctx context.Context, all bool) ([]Approval, error) {
	query := url.Values{}
	if all {
		query.Set("state", "all")
	}
	var out struct {
		Approvals []Approval `json:"approvals"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/approvals", query: query, out: &out})
	return out.Approvals, err
}

// Approval reads a request that people decide on.
func (c *Client) Approval(ctx context.Context, id string) (Approval, error) {
	var a Approval
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/approvals/" + url.PathEscape(id), out: &a})
	return a, err
}

// Approve says yes to what the ballot's digest is of. A *Problem with StepUp
// asks to authenticate anew; one with code code_required asks for a code.
func (c *Client) Approve(ctx context.Context, id string, b Ballot) (Approval, error) {
	in := struct {
		Digest  string `json:"digest"`
		Comment string `json:"comment,omitempty"`
		TTL     string `json:"ttl,omitempty"`
		MaxUses int64  `json:"maxUses,omitempty"`
		Code    string `json:"code,omitempty"`
	}{b.Digest, b.Comment, duration(b.TTL), b.MaxUses, b.Code}
	var a Approval
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/approvals/" + url.PathEscape(id) + "/approve", in: in, out: &a})
	return a, err
}

// Refuse says no, and why. A digest that is not empty must be the request's.
func (c *Client) Refuse(ctx context.Context, id, comment, digest string) (Approval, error) {
	in := struct {
		Digest  string `json:"digest,omitempty"`
		Comment string `json:"comment"`
	}{digest, comment}
	var a Approval
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/approvals/" + url.PathEscape(id) + "/refuse", in: in, out: &a})
	return a, err
}

// Issuers lists where people sign in.
func (c *Client) Issuers(ctx context.Context) ([]Issuer, error) {
	var out struct {
		Issuers []Issuer `json:"issuers"`
	}
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/issuers", out: &out})
	return out.Issuers, err
}

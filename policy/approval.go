package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// ApprovalID is "a_" and a ULID.
type ApprovalID string

// Valid reports whether id is a prefix and a ULID, as Exeat makes them.
func (id ApprovalID) Valid() bool { return validID(string(id), "a_") }

// ApprovalRule says what people must say yes before a grant becomes active. The
// zero rule is met by nobody.
type ApprovalRule struct {
	// Count of distinct people, all of one issuer.
	Count int
	// Groups: of each list, an approver must be in at least one.
	Groups [][]string
	// ExpiresAfter is how long the request waits for them.
	ExpiresAfter time.Duration
	StepUp       *StepUp `json:",omitempty"`
}

// StepUp says how recently and how an approver must have authenticated, at the
// moment of approving (RFC 9470).
type StepUp struct {
	MaxAge time.Duration
	ACR    string // the one that is wanted; empty: any
}

// Join gives the rule that is met when both are; nil is no rule.
func (r *ApprovalRule) Join(o *ApprovalRule) *ApprovalRule {
	switch {
	case r == nil:
		return o
	case o == nil:
		return r
	}
	out := &ApprovalRule{
		Count: max(r.Count, o.Count), ExpiresAfter: min(r.ExpiresAfter, o.ExpiresAfter),
		Groups: slices.Clone(r.Groups), StepUp: r.StepUp.join(o.StepUp),
	}
	for _, g := range o.Groups {
		if !slices.ContainsFunc(out.Groups, func(have []string) bool { return slices.Equal(have, g) }) {
			out.Groups = append(out.Groups, g)
		}
	}
	return out
}

// join keeps the stricter. Two ways to authenticate cannot both be had, so
// nobody meets them: the text that is wanted then is none that an issuer gives.
func (s *StepUp) join(o *StepUp) *StepUp {
	switch {
	case s == nil:
		return o
	case o == nil:
		return s
	}
	out := &StepUp{MaxAge: min(s.MaxAge, o.MaxAge), ACR: s.ACR}
	switch {
	case s.ACR == "":
		out.ACR = o.ACR
	case o.ACR != "" && o.ACR != s.ACR:
		out.ACR = s.ACR + " and " + o.ACR
	}
	return out
}

// Approval is one request that people decide on: one or several grants of one
// task, which become active together or not at all.
type Approval struct {
	ID       ApprovalID
	Task     TaskID
	Agent    string
	Owner    []string
	Instance Instance
	// RequestedBy and StartedBy are who asked and who started the task, as
	// records show them.
	RequestedBy, StartedBy string
	// Type, Purpose and Context are the task's; the last two are what the agent
	// says of itself.
	Type, Purpose      string
	Context            map[string]string
	Requested, Expires time.Time
	Items              []ApprovalItem
	Rule               ApprovalRule
	// Why approval is needed, in words.
	Why []string
	// Catalog is the revision under which it was last evaluated.
	Catalog string
	// Round counts how often it was evaluated anew, from 1.
	Round int
	// Votes are the approvals so far, of this round.
	Votes []Vote
	// Outcome is empty while people have not decided it; then it says how it
	// ended, DecidedAt when, By who and Comment what they said.
	Outcome   ApprovalOutcome
	DecidedAt time.Time
	By        string
	Comment   string
}

// ApprovalItem is one grant of a request, as it would be.
type ApprovalItem struct {
	Grant       GrantID
	Capability  string
	Description string
	Risk        string
	Sensitivity string
	Params      map[string]string
	Destination string
	// Calls that it opens, in words of HTTP; see Resolved.Calls.
	Calls []string
	// Provider and Scope of its credential.
	Provider string
	Scope    map[string]string
	TTL      time.Duration
	MaxUses  int64 // 0: any number
	// Digest is the resolved capability's.
	Digest string
}

// Vote is one person's yes.
type Vote struct {
	Voter
	At      time.Time
	Comment string
	// Digest is what the person saw.
	Digest string
	// TTL and MaxUses narrow the grants; zero leaves them.
	TTL     time.Duration
	MaxUses int64
}

// ApprovalOutcome is how a request ended that people decided on, or that the
// catalog decided for them.
type ApprovalOutcome string

// The outcomes. What ends otherwise ends with its grants, see State.
const (
	ApprovalApproved      ApprovalOutcome = "approved"
	ApprovalRefused       ApprovalOutcome = "refused"
	ApprovalWithdrawn     ApprovalOutcome = "withdrawn"
	ApprovalPolicyChanged ApprovalOutcome = "policy_changed"
	// ApprovalContextChanged: the agent is not who it was when it asked.
	ApprovalContextChanged ApprovalOutcome = "context_changed"
)

// Voter is someone who would decide. Local is set for whoever proved to see the
// terminal of the server itself.
type Voter struct {
	Issuer, ClientID, Subject, Name string
	Groups                          []string
	AuthTime                        time.Time
	ACR                             string
	Local                           bool
}

// LocalIssuer is the issuer of voters who are local.
const LocalIssuer = "local"

// PersonName is how records name a person.
func PersonName(issuer, subject string) string { return "person/" + issuer + "/" + subject }

// Is reports whether two voters are one person.
func (v Voter) Is(o Voter) bool { return v.Issuer == o.Issuer && v.Subject == o.Subject }

// VoteError says why a vote does not count. Code is of the closed list.
type VoteError struct {
	Code    string
	Message string
	// StepUp is set with CodeStepUp: what is wanted.
	StepUp *StepUp
}

func (e *VoteError) Error() string { return e.Message }

// The codes of a VoteError.
const (
	CodeNotApprover   = "not_an_approver"
	CodeOwnAgent      = "own_agent"
	CodeOwnRequest    = "own_request"
	CodeVotedBefore   = "already_approved"
	CodeStepUp        = "step_up_required"
	CodeDigest        = "digest_mismatch"
	CodeDecided       = "already_decided"
	CodeNotNarrower   = "not_narrower"
	CodeOtherIssuer   = "other_issuer"
	CodeLocalNotTaken = "local_not_taken"
)

// MayVote says why v may not approve a at now under cat, or nil. The digest and
// whether v voted before are not looked at.
func (a *Approval) MayVote(cat *Catalog, v Voter, now time.Time) *VoteError {
	if err := a.standingOf(cat, v); err != nil {
		return err
	}
	return a.Rule.steppedUp(v, now)
}

// standingOf: never the requester, the task's starter, or an owner; and of the
// groups that the rule names. Whoever sees the terminal of a developer's machine
// has no groups: they run the server itself.
func (a *Approval) standingOf(cat *Catalog, v Voter) *VoteError {
	name := PersonName(v.Issuer, v.Subject)
	switch {
	case v.Issuer == "" || v.Subject == "" || v.Local != (v.Issuer == LocalIssuer):
		return &VoteError{Code: CodeNotApprover, Message: "Nobody vouches for who you are; sign in with exeat login."}
	case name == a.RequestedBy || name == a.StartedBy:
		return &VoteError{Code: CodeOwnRequest, Message: "You asked for this or started its task; someone else must approve it."}
	case v.Local:
		return nil
	case intersects(v.Groups, a.Owner):
		return &VoteError{Code: CodeOwnAgent, Message: "You are among the owners of this agent; someone else must approve it."}
	case !cat.Rights(v.Issuer, v.ClientID, v.Groups).Allow(VerbApprove, a.Owner):
		return &VoteError{Code: CodeNotApprover, Message: "No Access of the catalog lets you approve for this agent; ask someone whom one does."}
	}
	for _, groups := range a.Rule.Groups {
		if !intersects(groups, v.Groups) {
			return &VoteError{Code: CodeNotApprover, Message: "This needs a member of " + quoted(groups) + "; ask one of them."}
		}
	}
	return nil
}

// steppedUp: what the person did to authenticate, and when, measured at now.
func (r *ApprovalRule) steppedUp(v Voter, now time.Time) *VoteError {
	s := r.StepUp
	if s == nil {
		return nil
	}
	old := v.AuthTime.IsZero() || now.Sub(v.AuthTime) > s.MaxAge
	if old || s.ACR != "" && v.ACR != s.ACR && !v.Local {
		words := "Authenticate again, at most " + s.MaxAge.String() + " before approving"
		if s.ACR != "" {
			words += ", by " + s.ACR
		}
		return &VoteError{Code: CodeStepUp, Message: words + ": exeat login --max-age " + s.MaxAge.String() + ".", StepUp: s}
	}
	return nil
}

// Approve adds a vote at now under cat. It changes a copy: votes that no longer
// count under cat are left out of it. The error is a *VoteError.
func (a Approval) Approve(cat *Catalog, v Vote, now time.Time) (Approval, error) {
	if err := a.MayVote(cat, v.Voter, now); err != nil {
		return a, err
	}
	switch {
	case a.Outcome != "":
		return a, &VoteError{Code: CodeDecided, Message: "This was decided already; look at it again."}
	case v.Digest == "" || v.Digest != a.Digest():
		return a, &VoteError{Code: CodeDigest, Message: "The digest is not that of the request as it is now; look at it again, and approve what you then see."}
	case slices.ContainsFunc(a.Votes, func(o Vote) bool { return o.Is(v.Voter) }):
		return a, &VoteError{Code: CodeVotedBefore, Message: "You have approved this already; it needs other people."}
	}
	if err := a.narrows(v); err != nil {
		return a, err
	}
	v.At = now
	a.Votes = append(a.counted(cat), v)
	return a, nil
}

// counted lists the votes of those who may still approve under cat. When they
// authenticated counted then.
func (a *Approval) counted(cat *Catalog) []Vote {
	var out []Vote
	for _, v := range a.Votes {
		if a.standingOf(cat, v.Voter) == nil && v.Digest == a.Digest() {
			out = append(out, v)
		}
	}
	return out
}

// narrows: an approver may give less than was asked for, never more.
func (a *Approval) narrows(v Vote) *VoteError {
	wide := v.TTL < 0 || v.MaxUses < 0 || v.TTL > 0 && v.TTL < time.Second
	for _, i := range a.Items {
		wide = wide || v.TTL > i.TTL || i.MaxUses > 0 && v.MaxUses > i.MaxUses
	}
	if wide {
		return &VoteError{Code: CodeNotNarrower, Message: "ttl and maxUses may only narrow what was asked for; give less than that, or leave them out."}
	}
	return nil
}

// Votes of one issuer count together: two issuers may know one person by two
// names.
func (a Approval) deciding() []Vote {
	var best []Vote
	for _, v := range a.Votes {
		var same []Vote
		for _, o := range a.Votes {
			if o.Issuer == v.Issuer && !slices.ContainsFunc(same, func(s Vote) bool { return s.Is(o.Voter) }) {
				same = append(same, o)
			}
		}
		if len(same) > len(best) {
			best = same
		}
	}
	return best
}

// Met reports whether enough people have approved.
func (a Approval) Met() bool { return a.Rule.Count > 0 && len(a.deciding()) >= a.Rule.Count }

// Given is how many people of one issuer have approved.
func (a Approval) Given() int { return len(a.deciding()) }

// Narrowed is an item as all approvers together leave it.
func (a *Approval) Narrowed(i ApprovalItem) ApprovalItem {
	for _, v := range a.Votes {
		if v.TTL > 0 {
			i.TTL = min(i.TTL, v.TTL)
		}
		if v.MaxUses > 0 && (i.MaxUses == 0 || v.MaxUses < i.MaxUses) {
			i.MaxUses = v.MaxUses
		}
	}
	return i
}

// digestedRequest is what a request's digest is over. Its JSON is canonical.
type digestedRequest struct {
	Form                   string
	ID                     ApprovalID
	Agent                  string
	Owner                  []string `json:",omitempty"` // none and an empty list are one digest
	Instance               Instance
	Task                   TaskID
	RequestedBy, StartedBy string
	Type, Purpose          string
	Context                map[string]string `json:",omitempty"`
	Items                  []digestedItem
	Rule                   ApprovalRule
}

type digestedItem struct {
	Grant      GrantID
	Capability string
	Params     map[string]string `json:",omitempty"`
	TTL        int64             // ns
	MaxUses    int64
	Resolved   string
}

// Digest is SHA-256 over all that a request means, in hexadecimal: over each
// resolved capability (calls, hosts, scope), parameters, agent, task, ttl, uses,
// the approval rule and what is claimed. The request's own ID is in it, so that
// one yes is never another's.
func (a Approval) Digest() string {
	form := digestedRequest{
		Form: "exeat.dev/request/1", ID: a.ID, Agent: a.Agent, Owner: a.Owner, Instance: a.Instance, Task: a.Task,
		RequestedBy: a.RequestedBy, StartedBy: a.StartedBy, Type: a.Type, Purpose: a.Purpose, Context: a.Context, Rule: a.Rule,
	}
	for _, i := range a.Items {
		form.Items = append(form.Items, digestedItem{i.Grant, i.Capability, i.Params, int64(i.TTL), i.MaxUses, i.Digest})
	}
	plain, err := json.Marshal(form)
	if err != nil {
		return "" // no field can fail; an empty digest is met by no vote
	}
	sum := sha256.Sum256(plain)
	return hex.EncodeToString(sum[:])
}

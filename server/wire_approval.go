package server

import (
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// Approval is a request that people decide on. What it holds of the agent's own
// words is under claimed.
type Approval struct {
	ID          string         `json:"id" example:"a_01J8Z0000000000000000000000"`
	State       string         `json:"state" doc:"pending, approved, refused, withdrawn, request_expired or how else its grants ended."`
	Digest      string         `json:"digest" doc:"Over all that the request means; what is approved is this."`
	Agent       string         `json:"agent"`
	Owner       []string       `json:"owner" doc:"Groups that answer for the agent, whose members may not approve."`
	Instance    string         `json:"instance"`
	Task        string         `json:"task"`
	TaskType    string         `json:"taskType"`
	Claimed     Claimed        `json:"claimed" doc:"What the agent says of itself; never trusted."`
	RequestedBy string         `json:"requestedBy"`
	StartedBy   string         `json:"startedBy"`
	RequestedAt time.Time      `json:"requestedAt"`
	ExpiresAt   time.Time      `json:"expiresAt" doc:"When it ends unless enough people have approved."`
	Round       int            `json:"round" doc:"Counts from 1 how often a catalog gave it another meaning."`
	Why         []string       `json:"why" doc:"Why approval is needed."`
	Items       []ApprovalItem `json:"items"`
	Rule        ApprovalRule   `json:"rule"`
	Given       int            `json:"given" doc:"How many people of one issuer have approved."`
	Votes       []ApprovalVote `json:"votes"`
	Holds       []ApprovalHeld `json:"holds" doc:"What the task's active grants open already."`
	DecidedAt   time.Time      `json:"decidedAt,omitzero"`
	DecidedBy   string         `json:"decidedBy,omitempty"`
	Comment     string         `json:"comment,omitempty" doc:"Why it was refused or has ended."`
	Mine        *ApprovalMine  `json:"mine,omitempty" doc:"Why you cannot approve it; absent when you can, or when you are no person."`
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
	Calls       []string          `json:"calls" doc:"Calls that it opens."`
	Adds        []string          `json:"adds" doc:"Those of them that nothing of the task opens yet."`
	Provider    string            `json:"provider,omitempty" doc:"What mints its credential."`
	Scope       map[string]string `json:"scope,omitempty" doc:"What its credential is good for."`
	TTL         Duration          `json:"ttl"`
	MaxUses     int64             `json:"maxUses,omitempty" doc:"Absent: any number."`
}

// ApprovalRule is what people must say yes.
type ApprovalRule struct {
	Count  int        `json:"count" doc:"Distinct people, all of one issuer."`
	Groups [][]string `json:"groups" doc:"Each approver is in at least one of each list."`
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

// Issuing is a place where people sign in, by the device flow (RFC 8628).
type Issuing struct {
	Issuer   string   `json:"issuer"`
	ClientID string   `json:"clientID"`
	Scopes   []string `json:"scopes"`
}

func wireApproval(a grant.Approval) Approval {
	out := Approval{
		ID: string(a.ID), State: a.State, Digest: a.Digest(), Agent: a.Agent, Owner: a.Owner, Instance: string(a.Instance),
		Task: string(a.Task), TaskType: a.Type, Claimed: Claimed{Purpose: a.Purpose, Context: a.Context},
		RequestedBy: a.RequestedBy, StartedBy: a.StartedBy, RequestedAt: a.Requested.UTC(), ExpiresAt: a.Expires.UTC(),
		Round: a.Round, Why: a.Why, Rule: wireRule(a.Rule), Given: a.Given(),
		Items: []ApprovalItem{}, Votes: []ApprovalVote{}, Holds: []ApprovalHeld{},
		DecidedAt: utc(a.DecidedAt), DecidedBy: a.By, Comment: a.Comment,
	}
	for i, item := range a.Items {
		out.Items = append(out.Items, wireItem(item, a.Grants[i].State.String(), a.Adds[i]))
	}
	for _, v := range a.Votes {
		out.Votes = append(out.Votes, ApprovalVote{
			Name: v.Name, Issuer: v.Issuer, Subject: v.Subject, At: v.At.UTC(), Comment: v.Comment, TTL: Duration{v.TTL}, MaxUses: v.MaxUses,
		})
	}
	for _, h := range a.Holds {
		out.Holds = append(out.Holds, ApprovalHeld{
			Grant: string(h.Grant.ID), Capability: h.Grant.Capability, Params: h.Grant.Params, Until: h.Grant.Until.UTC(), Calls: h.Calls,
		})
	}
	if a.Mine != nil {
		out.Mine = &ApprovalMine{Code: a.Mine.Code, Detail: a.Mine.Message}
	}
	return out
}

func wireItem(i policy.ApprovalItem, state string, adds []string) ApprovalItem {
	return ApprovalItem{
		Grant: string(i.Grant), State: state, Capability: i.Capability, Description: i.Description, Risk: i.Risk, Sensitivity: i.Sensitivity,
		Params: i.Params, Destination: i.Destination, Calls: i.Calls, Adds: append([]string{}, adds...),
		Provider: i.Provider, Scope: i.Scope, TTL: Duration{i.TTL}, MaxUses: i.MaxUses,
	}
}

func wireRule(r policy.ApprovalRule) ApprovalRule {
	return ApprovalRule{Count: r.Count, Groups: r.Groups, StepUp: wireStepUp(r.StepUp)}
}

func wireStepUp(s *policy.StepUp) *StepUp {
	if s == nil {
		return nil
	}
	return &StepUp{MaxAge: Duration{s.MaxAge}, ACR: s.ACR}
}

package server

import (
	"encoding/json"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// Claimed is what an agent says of itself; kept and shown, never trusted.
type Claimed struct {
	Purpose string            `json:"purpose,omitempty" maxLength:"1024" doc:"What the task is for, in words."`
	Context map[string]string `json:"context,omitempty" maxProperties:"32" doc:"Whatever helps people understand it, such as a ticket or a run."`
}

// Task is a unit of work that grants are bound to.
type Task struct {
	ID        string    `json:"id" example:"t_01J8Z0000000000000000000000"`
	Agent     string    `json:"agent"`
	Instance  string    `json:"instance" doc:"SPIFFE ID of the sidecar that it was started on and belongs to."`
	Type      string    `json:"type"`
	Claimed   Claimed   `json:"claimed"`
	StartedBy string    `json:"startedBy"`
	State     string    `json:"state" enum:"pending,active,paused,ended"`
	StartedAt time.Time `json:"startedAt"`
	Until     time.Time `json:"until" doc:"When it ends by itself."`
	EndedAt   time.Time `json:"endedAt,omitzero"`
	EndReason string    `json:"endReason,omitempty"`
	Grants    []Grant   `json:"grants,omitempty" doc:"Present when one task is read."`
}

// StartedTask is a task with its credential, which is shown this once.
type StartedTask struct {
	Task
	Credential string `json:"credential" doc:"Proof of acting within the task: the password of its proxy credential, whose user is the task's ID, and the value of Exeat-Task-Credential. A secret."`
}

// Grant is one capability with its parameters filled in, held for one task.
type Grant struct {
	ID          string            `json:"id" example:"g_01J8Z0000000000000000000000"`
	Task        string            `json:"task"`
	Agent       string            `json:"agent"`
	Instance    string            `json:"instance"`
	Capability  string            `json:"capability"`
	Params      map[string]string `json:"params,omitempty"`
	Destination string            `json:"destination"`
	State       string            `json:"state" enum:"pending,active,ended"`
	Ready       bool              `json:"ready" doc:"The very next call under it succeeds."`
	Waiting     string            `json:"waiting,omitempty" doc:"What a grant that is not ready waits for: approval, credential, replicas, sidecar, sidecar_disconnected or sidecar_rejected."`
	Detail      string            `json:"detail,omitempty" doc:"In words, what it waits for or why it failed."`
	Approval    string            `json:"approval,omitempty" doc:"The request that people decide or decided on."`
	Next        []Next            `json:"next,omitempty" doc:"What to do while people decide."`
	RequestedAt time.Time         `json:"requestedAt"`
	Until       time.Time         `json:"until" doc:"When it ends by itself."`
	EndedAt     time.Time         `json:"endedAt,omitzero"`
	EndReason   string            `json:"endReason,omitempty"`
	MaxUses     int64             `json:"maxUses,omitempty" doc:"How many calls it authorises at most; absent: any number."`
	Used        int64             `json:"used,omitempty" doc:"How many it has authorised, if its use is limited."`
	Catalog     string            `json:"catalog" doc:"The catalog's revision that it was decided under."`
}

// Ending says how far an ending is.
type Ending struct {
	AcceptedAt time.Time `json:"acceptedAt" doc:"When it became durable: from then on nothing brings it back."`
	Enforced   bool      `json:"enforced" doc:"No replica allows a call any more, no older check still runs, and the streams are closed."`
	EnforcedAt time.Time `json:"enforcedAt,omitzero"`
	BoundAt    time.Time `json:"boundAt,omitzero" doc:"When it is not confirmed: the moment at which the last open stream ends by itself."`
	Waiting    string    `json:"waiting,omitempty" doc:"What its enforcement waits for: replicas, sidecar or sidecar_disconnected."`
}

// EndedGrant is a grant and how far its ending is.
type EndedGrant struct {
	Grant  Grant  `json:"grant"`
	Ending Ending `json:"ending"`
}

// Receipt is what a task did.
type Receipt struct {
	Task        Task               `json:"task"`
	Ending      Ending             `json:"ending"`
	Grants      []Grant            `json:"grants"`
	Calls       ReceiptCalls       `json:"calls"`
	Credentials ReceiptCredentials `json:"credentials"`
}

// ReceiptCalls counts calls by their decision.
type ReceiptCalls struct {
	Allowed int            `json:"allowed"`
	Denied  map[string]int `json:"denied,omitempty" doc:"By reason."`
}

// ReceiptCredentials counts credentials by what became of them.
type ReceiptCredentials struct {
	Minted      int `json:"minted"`
	Injected    int `json:"injected" doc:"Standing secrets that were put on calls; they outlive the task."`
	MintFailed  int `json:"mintFailed"`
	Revoked     int `json:"revoked"`
	ExpiresOnly int `json:"expiresOnly" doc:"Cannot be taken back; they end by themselves."`
	Unsupported int `json:"unsupported" doc:"Cannot be taken back and do not end by themselves."`
	Failed      int `json:"failed" doc:"Taking them back failed."`
	Pending     int `json:"pending" doc:"Taking them back goes on."`
}

// Capability is what an agent may ask for.
type Capability struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	Risk        string          `json:"risk"`
	Sensitivity string          `json:"sensitivity"`
	Destination string          `json:"destination"`
	TTL         Duration        `json:"ttl" doc:"How long a grant lasts that asks for nothing."`
	MaxTTL      Duration        `json:"maxTTL" doc:"The most that may be asked for."`
	MaxUses     int64           `json:"maxUses,omitempty" doc:"How many calls one grant authorises at most; absent: any number."`
	Rate        *Rate           `json:"rate,omitempty" doc:"How fast one grant's calls may follow each other."`
	Bytes       int64           `json:"bytes,omitempty" doc:"Bytes of one grant's requests and responses together."`
	Schema      json.RawMessage `json:"schema" doc:"JSON Schema (2020-12) of params for this agent."`
}

// Rate bounds calls per time.
type Rate struct {
	Calls int64    `json:"calls"`
	Per   Duration `json:"per"`
}

// Denial is a denied call as its agent may know it.
type Denial struct {
	N           int       `json:"n" doc:"Counts the task's denials from 1."`
	Decision    string    `json:"decision"`
	Time        time.Time `json:"time"`
	Reason      string    `json:"reason"`
	Retry       string    `json:"retry" enum:"never,after,request_grant"`
	Method      string    `json:"method"`
	URL         string    `json:"url" doc:"Without its query."`
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

// Sidecar is a connected sidecar and how far its configuration is.
type Sidecar struct {
	Instance string `json:"instance"`
	Agent    string `json:"agent,omitempty"`
	Ready    int64  `json:"ready" doc:"Everything granted up to this store revision is in force."`
	Cut      int64  `json:"cut" doc:"Everything ended up to this store revision is out of force."`
	Rejected string `json:"rejected,omitempty" doc:"The sidecar's words for the configuration that it refused."`
	Version  string `json:"version,omitempty"`
}

// Enrollment is what a sidecar needs to begin.
type Enrollment struct {
	Instance       string            `json:"instance" doc:"The SPIFFE ID that the calling process now has."`
	GRPC           string            `json:"grpc" doc:"Address of the xDS and ext_authz server."`
	API            string            `json:"api" doc:"URL of the HTTP API."`
	TrustDomain    string            `json:"trustDomain"`
	WorkloadSocket string            `json:"workloadSocket" doc:"Path of the SPIFFE Workload API."`
	ClientEnv      map[string]string `json:"clientEnv,omitempty" doc:"Placeholders for client libraries that insist on a key."`
}

func wireTask(t policy.Task) Task {
	return Task{
		ID: string(t.ID), Agent: t.Agent, Instance: string(t.Instance), Type: t.Type,
		Claimed: Claimed{Purpose: t.Purpose, Context: t.Context}, StartedBy: t.StartedBy,
		State: t.State.String(), StartedAt: t.Began.UTC(), Until: t.Until.UTC(), EndedAt: utc(t.EndedAt), EndReason: string(t.End),
	}
}

func wireGrant(s grant.Status) Grant {
	g := s.Grant
	var next []Next
	if g.State == policy.Pending {
		next = wireNext(policy.Awaiting(&g))
	}
	return Grant{
		Approval: string(g.Approval), Next: next,
		ID: string(g.ID), Task: string(g.Task), Agent: g.Agent, Instance: string(g.Instance),
		Capability: g.Capability, Params: g.Params, Destination: g.Destination, State: g.State.String(),
		Ready: s.Ready, Waiting: string(s.Waiting), Detail: s.Why, RequestedAt: g.Began.UTC(), Until: g.Until.UTC(),
		EndedAt: utc(g.EndedAt), EndReason: string(g.End), Catalog: g.Catalog,
		MaxUses: g.MaxUses, Used: s.Used,
	}
}

func wireEnding(e grant.Ending) Ending {
	return Ending{
		AcceptedAt: e.Accepted.UTC(), Enforced: !e.Enforced.IsZero(), EnforcedAt: utc(e.Enforced),
		BoundAt: utc(e.Bound), Waiting: string(e.Waiting),
	}
}

func wireReceipt(r grant.Receipt) Receipt {
	out := Receipt{
		Task: wireTask(r.Task), Ending: wireEnding(r.Ending), Grants: []Grant{},
		Calls: ReceiptCalls{Allowed: r.Tally.Allowed}, Credentials: wireCredentials(r.Tally),
	}
	for _, g := range r.Grants {
		out.Grants = append(out.Grants, wireGrant(grant.Status{Grant: g, Used: r.Used[g.ID]}))
	}
	for reason, n := range r.Tally.Denied {
		if out.Calls.Denied == nil {
			out.Calls.Denied = map[string]int{}
		}
		out.Calls.Denied[reason.String()] = n
	}
	return out
}

func wireCredentials(t audit.Tally) ReceiptCredentials {
	c := ReceiptCredentials{
		Minted: t.Minted, Injected: t.Injected, MintFailed: t.MintFailed,
		Revoked: t.Revoked, ExpiresOnly: t.ExpiresOnly, Unsupported: t.Unsupported, Failed: t.RevokeFailed,
	}
	c.Pending = max(0, c.Minted+c.Injected-c.Revoked-c.ExpiresOnly-c.Unsupported-c.Failed)
	return c
}

func wireDenial(d audit.Denial) Denial {
	out := Denial{
		N: d.N, Decision: d.ID, Time: d.Time.UTC(), Reason: d.Reason.String(), Retry: string(d.Reason.Retry()),
		Method: d.Method, URL: d.URL, Destination: d.Destination, Capability: d.Capability,
	}
	out.Next = wireNext(d.Next)
	return out
}

func wireCapability(c grant.Capability) Capability {
	out := Capability{
		Name: c.Name, Description: c.Description, Risk: c.Risk, Sensitivity: c.Sensitivity,
		Destination: c.Destination, TTL: Duration{c.TTL}, MaxTTL: Duration{c.MaxTTL}, Schema: c.Schema,
		MaxUses: c.Limits.MaxUses, Bytes: c.Limits.Bytes,
	}
	if r := c.Limits.Rate; r.Calls > 0 {
		out.Rate = &Rate{Calls: r.Calls, Per: Duration{r.Per}}
	}
	return out
}

func wireSidecar(s grant.Sidecar) Sidecar {
	return Sidecar{Instance: string(s.Instance), Agent: s.Agent, Ready: s.Ready, Cut: s.Cut, Rejected: s.Rejected, Version: s.Version}
}

// utc keeps the zero time zero, so that it is left out.
func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

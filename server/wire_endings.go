package server

import (
	"time"

	"github.com/exeat-dev/exeat/grant"
)

// Agent is an agent as people see it.
type Agent struct {
	Name        string      `json:"name"`
	Owner       []string    `json:"owner" doc:"The groups of people who answer for it."`
	Environment string      `json:"environment,omitempty"`
	State       string      `json:"state" enum:"active,suspended"`
	Suspension  *Suspension `json:"suspension,omitempty"`
	OnDenials   *Threshold  `json:"onDenials,omitempty" doc:"The denied calls at which it is suspended by itself."`
	Tasks       int         `json:"tasks" doc:"How many are active."`
	Grants      int         `json:"grants" doc:"How many are active."`
}

// Threshold is so many within so long.
type Threshold struct {
	Count int      `json:"count"`
	Per   Duration `json:"per"`
}

// Suspension says who suspended an agent.
type Suspension struct {
	By     string    `json:"by"`
	Reason string    `json:"reason,omitempty"`
	At     time.Time `json:"at"`
}

// Revocation is the ending of everything in a scope at once.
type Revocation struct {
	Scope     string `json:"scope" enum:"all,owner,agent,capability"`
	Name      string `json:"name,omitempty"`
	Grants    int    `json:"grants" doc:"How many were active in it."`
	Instances int    `json:"instances" doc:"How many sidecars held them."`
	Ending    Ending `json:"ending"`
}

func wireAgent(a grant.AgentStatus) Agent {
	out := Agent{Name: a.Name, Owner: append([]string{}, a.Owner...), Environment: a.Environment, State: "active", Tasks: a.Tasks, Grants: a.Grants}
	if s := a.Suspension; s != nil {
		out.State, out.Suspension = "suspended", &Suspension{By: s.By, Reason: s.Why, At: s.At.UTC()}
	}
	if d := a.OnDenials; d != nil {
		out.OnDenials = &Threshold{Count: d.Count, Per: Duration{d.Per}}
	}
	return out
}

func wireRevocation(r grant.Revocation) Revocation {
	return Revocation{
		Scope: string(r.Scope.Kind), Name: r.Scope.Name, Grants: r.Grants, Instances: r.Instances, Ending: wireEnding(r.Ending),
	}
}

package grant

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// SuspendedError: the agent is suspended, and may begin nothing.
type SuspendedError struct{ policy.Suspension }

func (e *SuspendedError) Error() string { return "the agent is suspended" }

// AgentStatus is an agent as people see it.
type AgentStatus struct {
	Name        string
	Owner       []string
	Environment string
	// OnDenials is the threshold at which it is suspended by itself; nil: none.
	OnDenials *policy.Threshold
	// Suspension is nil while it is not suspended.
	Suspension *policy.Suspension
	// Tasks and Grants that are active.
	Tasks, Grants int
}

// Suspend suspends an agent and ends all its grants, on behalf of whoever may
// suspend what is the agent's: its calls are denied as agent_suspended, and it
// may start and ask for nothing until it is resumed. An agent that is suspended
// already stays so in the first one's name. The reply waits up to wait for the
// enforcement.
func (s *Service) Suspend(ctx context.Context, c Caller, agent, why string, wait time.Duration) (AgentStatus, Revocation, error) {
	if err := s.mayTo(c, policy.VerbSuspend, agent); err != nil {
		return AgentStatus{}, Revocation{}, err
	}
	if len(why) > MaxPurpose || !isText(why) {
		return AgentStatus{}, Revocation{}, invalid("reason", "text without control characters, of at most 1024 bytes")
	}
	return s.suspend(ctx, policy.Suspension{Agent: agent, By: c.Name, Why: why}, wait)
}

func (s *Service) suspend(ctx context.Context, sus policy.Suspension, wait time.Duration) (AgentStatus, Revocation, error) {
	scope := policy.Scope{Kind: policy.ScopeAgent, Name: sus.Agent}
	open, grants := s.open(scope, s.store.Now())
	by := sus.By
	sus, rev, err := s.store.Suspend(ctx, sus)
	if err != nil {
		return AgentStatus{}, Revocation{}, err
	}
	s.metrics.endings.WithLabelValues("agent", string(policy.EndAgentSuspended)).Inc()
	t := scopeTransition(s.store.Now(), scope, policy.Cause{Revision: rev, Reason: policy.EndAgentSuspended, By: by}, sus.Why)
	t.To, t.Owner = policy.Paused, s.ownerOf(sus.Agent)
	s.audit.Transition(ctx, t)
	r := Revocation{Scope: scope}
	r.Grants, r.Ending = s.enforceScope(ctx, scope, open, grants, rev, t.Time, wait)
	r.Instances = len(open)
	st := s.agentStatus(sus.Agent)
	st.Suspension = &sus // this replica may not know it yet
	return st, r, nil
}

// ResumeAgent lets a suspended agent begin again, on behalf of whoever may
// resume what is the agent's. Nothing comes back: its grants ended when it was
// suspended, and the tasks that it had then end now. Resuming an agent that is
// not suspended changes nothing.
func (s *Service) ResumeAgent(ctx context.Context, c Caller, agent string) (AgentStatus, error) {
	if err := s.mayTo(c, policy.VerbResume, agent); err != nil {
		return AgentStatus{}, err
	}
	sus := s.index.Suspended(agent)
	if sus == nil {
		return s.agentStatus(agent), nil
	}
	if err := s.endTasksOf(ctx, *sus, c.Name); err != nil {
		return AgentStatus{}, err
	}
	rev, err := s.store.Resume(ctx, agent)
	if errors.Is(err, store.ErrNotFound) { // by someone else, at the same moment
		return s.agentStatus(agent), nil
	}
	if err != nil {
		return AgentStatus{}, err
	}
	s.audit.Transition(ctx, audit.Transition{
		Time: s.store.Now(), Scope: policy.Scope{Kind: policy.ScopeAgent, Name: agent}.String(), From: policy.Paused, To: policy.Active,
		Subject: audit.Subject{Agent: agent, Owner: s.ownerOf(agent)}, By: c.Name, Store: rev,
	})
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	err = s.index.AwaitRevision(ctx, rev)
	return s.agentStatus(agent), err
}

// endTasksOf ends what tasks a suspended agent still has. No new one can come
// while it is suspended, so that once all that the index shows have ended,
// having seen the suspension, there is none.
func (s *Service) endTasksOf(ctx context.Context, sus policy.Suspension, by string) error {
	seen, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	if err := s.index.AwaitRevision(seen, sus.Revision); err != nil {
		return err
	}
	var failed error
	s.index.EachTask(func(v *policy.TaskView) bool {
		if v.Task.Agent == sus.Agent && v.Task.State != policy.Ended {
			_, _, err := s.endTask(ctx, v.Task, cause{why: policy.EndAgentSuspended, by: by, words: "the agent was suspended, and is resumed"})
			failed = errors.Join(failed, ignoreGone(err))
		}
		return ctx.Err() == nil
	})
	return failed
}

// mayTo says why c cannot do something to an agent. One that nobody knows of
// does not exist.
func (s *Service) mayTo(c Caller, verb policy.Verb, agent string) error {
	if !c.May(verb, s.ownerOf(agent)) {
		return ErrOperator
	}
	scope := policy.Scope{Kind: policy.ScopeAgent, Name: agent}
	if agent == "" || len(agent) > maxScopeName || !isText(agent) {
		return ErrUnknown
	}
	if cat := s.index.Catalog(); cat != nil && !s.inCatalog(cat, scope) && !s.anyUnder(scope) && s.index.Suspended(agent) == nil {
		return ErrUnknown
	}
	return nil
}

// Agents lists the agents that the caller may see, by name: those of the catalog
// and those that are suspended.
func (s *Service) Agents(c Caller) []AgentStatus {
	byName := map[string]*AgentStatus{}
	var list []AgentStatus
	for _, a := range s.index.Catalog().Agents() {
		byName[a.Name] = s.bareStatus(a.Name)
	}
	for _, sus := range s.index.Suspensions() {
		if byName[sus.Agent] == nil {
			byName[sus.Agent] = s.bareStatus(sus.Agent)
		}
	}
	s.count(byName)
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		if st := byName[name]; c.May(policy.VerbView, st.Owner) || c.Agent != nil && c.Agent.Name == name {
			list = append(list, *st)
		}
	}
	return list
}

// Agent reads one of them.
func (s *Service) Agent(c Caller, name string) (AgentStatus, error) {
	for _, st := range s.Agents(c) {
		if st.Name == name {
			return st, nil
		}
	}
	return AgentStatus{}, ErrUnknown
}

func (s *Service) agentStatus(name string) AgentStatus {
	st := s.bareStatus(name)
	s.count(map[string]*AgentStatus{name: st})
	return *st
}

func (s *Service) bareStatus(name string) *AgentStatus {
	st := &AgentStatus{Name: name, Owner: s.ownerOf(name), Suspension: s.index.Suspended(name)}
	if a, ok := s.index.Catalog().Agent(name); ok {
		st.Environment, st.OnDenials = a.Environment, a.OnDenials
	}
	return st
}

// count counts what is active of some agents.
func (s *Service) count(of map[string]*AgentStatus) {
	now := s.store.Now()
	s.index.EachTask(func(v *policy.TaskView) bool {
		st := of[v.Task.Agent]
		if st == nil {
			return true
		}
		if v.Task.Live(now) {
			st.Tasks++
		}
		for _, h := range v.Held {
			if v.Task.Live(now) && effective(h, now).State == policy.Active {
				st.Grants++
			}
		}
		return true
	})
}

package grant

import (
	"context"
	"errors"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Request asks for a grant of a capability within a task.
type Request struct {
	Task       policy.TaskID
	Capability string
	Params     map[string]string
	TTL        time.Duration // the capability's own when zero

	renews policy.GrantID // see Renew
}

const (
	// MaxLive bounds the grants of one task that are live at once, so that one
	// agent cannot fill the index of every replica.
	MaxLive = 128
	// attempts at a transaction that others keep changing the ground of.
	attempts = 4
)

// Request decides on r by the catalog in force, and waits up to wait for the
// grant to be ready. A refusal is a *policy.RequestError. A grant whose
// credential cannot be minted is ended, and the Status says why.
func (s *Service) Request(ctx context.Context, c Caller, r Request, wait time.Duration) (Status, error) {
	began := s.store.Now()
	g, err := s.issue(ctx, c, r)
	s.metrics.requests.WithLabelValues(resultOf(err)).Inc()
	if err != nil {
		return Status{}, err
	}
	_, late := s.settled(ctx, g.Task, func(v *policy.TaskView) bool { return held(v, g.ID) != nil })
	if late != nil { // it is durable, though this replica does not know it yet
		return s.unseen(g), nil //nolint:nilerr // being late is told by the status
	}
	st, err := s.await(ctx, g.Task, g.ID, wait)
	if err == nil && st.Ready {
		s.metrics.ready.Observe(s.store.Now().Sub(began).Seconds())
	}
	return st, err
}

func (*Service) unseen(g policy.Grant) Status {
	return Status{Grant: g, Waiting: WaitReplicas, Why: waitingWords[WaitReplicas]}
}

// issue writes the grant, or says why there is none.
func (s *Service) issue(ctx context.Context, c Caller, r Request) (policy.Grant, error) {
	if err := asAgent(c); err != nil {
		return policy.Grant{}, err
	}
	for range attempts {
		// The revision is read before what is decided on: what rises after it
		// is noticed by the transaction.
		seen, cat := s.index.Revision(), s.index.Catalog()
		v, err := s.view(ctx, r.Task)
		if v, err = changeable(c, v, err); err != nil {
			return policy.Grant{}, err
		}
		if sus := s.index.Suspended(v.Task.Agent); sus != nil {
			err := &SuspendedError{*sus}
			s.recordRefusal(ctx, cat, v.Task, r, err, c.Name)
			return policy.Grant{}, err
		}
		g, err := s.decide(cat, v, r)
		if err != nil {
			s.recordRefusal(ctx, cat, v.Task, r, err, c.Name)
			return policy.Grant{}, err
		}
		rev, err := s.store.CreateGrants(ctx, seen, g)
		if err == nil {
			s.recordGrant(ctx, g, policy.StateNone, rev, c.Name, "")
			return g, nil
		}
		// The task or the catalog changed underneath: decide again on what is.
		if !errors.Is(err, store.ErrConflict) || !s.movedOn(ctx, v, cat) {
			return policy.Grant{}, hide(err)
		}
	}
	return policy.Grant{}, store.ErrConflict
}

// movedOn waits until the index is past what a decision was made on.
func (s *Service) movedOn(ctx context.Context, v *policy.TaskView, cat *policy.Catalog) bool {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	sub := s.index.Subscribe()
	defer sub.Close()
	for s.index.Task(v.Task.ID) == v && s.index.Catalog() == cat {
		if _, err := sub.Next(ctx); err != nil {
			return !v.Task.Live(s.store.Now()) // its time ran out meanwhile
		}
	}
	return true
}

// decide makes the grant that r would be under cat.
func (s *Service) decide(cat *policy.Catalog, v *policy.TaskView, r Request) (policy.Grant, error) {
	if cat == nil {
		return policy.Grant{}, ErrNoCatalog
	}
	now := s.store.Now()
	if v.Task.State == policy.Paused && !v.Task.Over(now) {
		return policy.Grant{}, ErrPaused
	}
	if !v.Task.Live(now) {
		return policy.Grant{}, ErrEnded
	}
	if err := s.renewable(v, r); err != nil {
		return policy.Grant{}, err
	}
	if live(v, now) >= MaxLive {
		return policy.Grant{}, ErrTooMany
	}
	agent, ok := cat.Agent(v.Task.Agent)
	if !ok {
		return policy.Grant{}, &policy.RequestError{Code: "unknown_agent", Message: "The catalog in force has no such agent any more."}
	}
	if v.Task.AgentDigest != "" && v.Task.AgentDigest != agent.Digest() {
		return policy.Grant{}, &policy.RequestError{Code: policy.CodeContextChanged,
			Message: "The agent is not who it was when the task began (identity, owner or environment); start a new task."}
	}
	resolved, err := cat.Resolve(agent.Name, r.Capability, r.Params)
	if err != nil {
		return policy.Grant{}, err
	}
	if !v.Task.Permits(resolved.Capability.Name) {
		return policy.Grant{}, &policy.RequestError{Code: policy.CodeOutsideEnvelope, Field: "capability",
			Message: "The task was started for other capabilities only; start a task whose envelope has this one."}
	}
	life, err := s.lifeOf(now, resolved.Capability, v.Task, r.TTL)
	return policy.Grant{
		ID: policy.GrantID(newID("g_")), Task: v.Task.ID, Agent: agent.Name, Owner: agent.OwnerGroups,
		Instance: v.Task.Instance, Capability: resolved.Capability.Name, Params: resolved.Params,
		Destination: resolved.Destination.Name, Life: life, Digest: resolved.Digest, Catalog: cat.Revision(),
		AgentDigest: agent.Digest(), Renews: r.renews,
	}, err
}

// minTTL of a grant: with less, its end at a whole second could be now.
const minTTL = time.Second

// lifeOf begins a grant's life. More than the capability allows is refused
// rather than cut: the agent must know how long it may work.
func (*Service) lifeOf(now time.Time, c *policy.Capability, t policy.Task, asked time.Duration) (policy.Life, error) {
	ttl, err := c.Lifetime(asked)
	if err != nil {
		return policy.Life{}, err
	}
	if ttl < minTTL {
		return policy.Life{}, &policy.RequestError{Code: policy.CodeParamNotAllowed, Field: "ttl", Message: "ttl must be at least " + minTTL.String()}
	}
	// At a whole second, as tokens do (RFC 7519 section 2, read as most verifiers
	// do): so that grant and credential end together.
	ends := earlier(now.Add(ttl), t.Until).Truncate(time.Second)
	if !ends.After(now) {
		return policy.Life{}, ErrEnded // as good as
	}
	return policy.Transition(policy.Life{State: policy.Pending, Began: now}, policy.Activate(ends), now)
}

func live(v *policy.TaskView, now time.Time) int {
	n := 0
	for _, h := range v.Held {
		if h.Grant.Live(now) {
			n++
		}
	}
	return n
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// resultOf names an outcome for the metric: a closed set.
func resultOf(err error) string {
	var refused *policy.RequestError
	switch {
	case err == nil:
		return "granted"
	case errors.As(err, &refused):
		return refused.Code
	case errors.As(err, new(*SuspendedError)), errors.Is(err, store.ErrSuspended):
		return "agent_suspended"
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrProof), errors.Is(err, ErrNoInstance):
		return "not_allowed"
	}
	return "failed"
}

package grant

import (
	"context"
	"errors"
	"strconv"
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
	MaxUses    int64         // the capability's own when zero
}

const (
	// MaxLive bounds the grants of one task that are live or pending at once, so
	// that one agent cannot fill the index of every replica.
	MaxLive = 128
	// attempts at a transaction that others keep changing the ground of.
	attempts = 4
)

// Request decides on r by the catalog in force, and waits up to wait for the
// grant to be ready. A refusal is a *policy.RequestError. A grant whose
// credential cannot be minted is ended, and the Status says why. A grant that
// people must approve is pending, and is not waited for: Get does.
func (s *Service) Request(ctx context.Context, c Caller, r Request, wait time.Duration) (Status, error) {
	list, err := s.RequestAll(ctx, c, []Request{r}, wait)
	if err != nil {
		return Status{}, err
	}
	return list[0], nil
}

// MaxTogether bounds how many grants may be asked for as one.
const MaxTogether = 16

// RequestAll asks for several grants of one task as one: all are given or none.
// When one of them needs approval, people decide on all of them together.
func (s *Service) RequestAll(ctx context.Context, c Caller, rs []Request, wait time.Duration) ([]Status, error) {
	began := s.store.Now()
	gs, err := s.issue(ctx, c, rs, &history{requests: len(rs)})
	if err != nil {
		s.metrics.requests.WithLabelValues(resultOf(err)).Inc()
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, max(wait, settle+instant))
	defer cancel()
	out := make([]Status, 0, len(gs))
	for _, g := range gs {
		left := wait - s.store.Now().Sub(began)
		st, err := s.first(ctx, g, left)
		if err != nil {
			return nil, err
		}
		if st.Ready {
			s.metrics.ready.Observe(s.store.Now().Sub(began).Seconds())
		}
		out = append(out, st)
	}
	return out, nil
}

// first is the Status of a grant that was made just now.
func (s *Service) first(ctx context.Context, g policy.Grant, wait time.Duration) (Status, error) {
	result := "granted"
	if g.State == policy.Pending {
		result = "pending"
	}
	s.metrics.requests.WithLabelValues(result).Inc()
	v, late := s.settled(ctx, g.Task, func(v *policy.TaskView) bool { return held(v, g.ID) != nil })
	if late != nil { // it is durable, though this replica does not know it yet
		return s.unseen(g), nil //nolint:nilerr // being late is told by the status
	}
	if g.State == policy.Pending {
		return s.look(ctx, held(v, g.ID)), nil
	}
	return s.await(ctx, g.Task, g.ID, wait)
}

func (*Service) unseen(g policy.Grant) Status {
	return Status{Grant: g, Waiting: WaitReplicas, Why: waitingWords[WaitReplicas]}
}

// issue writes the grants, or says why there are none.
func (s *Service) issue(ctx context.Context, c Caller, rs []Request, h *history) ([]policy.Grant, error) {
	if err := asAgent(c); err != nil {
		return nil, err
	}
	if err := together(rs); err != nil {
		return nil, err
	}
	for range attempts {
		// The revision is read before what is decided on: what rises after it
		// is noticed by the transaction.
		seen, cat := s.index.Revision(), s.index.Catalog()
		v, err := s.view(ctx, rs[0].Task)
		if v, err = changeable(c, v, err); err != nil {
			return nil, err
		}
		ps, err := s.decideAll(ctx, cat, v, rs, c.Name, h)
		if err != nil {
			return nil, err
		}
		gs, err := s.write(ctx, seen, cat, v, ps, c)
		if err == nil {
			return gs, nil
		}
		// The task or the catalog changed underneath: decide again on what is.
		if !errors.Is(err, store.ErrConflict) || !s.movedOn(ctx, v, cat) {
			return nil, hide(err)
		}
	}
	return nil, store.ErrConflict
}

// together checks what is asked for as one.
func together(rs []Request) error {
	if len(rs) == 0 || len(rs) > MaxTogether {
		return invalid("grants", "1 to "+strconv.Itoa(MaxTogether)+" grants of one task")
	}
	for _, r := range rs {
		if r.Task != rs[0].Task {
			return invalid("grants", "grants of one task")
		}
	}
	return nil
}

// decideAll decides on each; the first refusal is that of all.
func (s *Service) decideAll(ctx context.Context, cat *policy.Catalog, v *policy.TaskView, rs []Request, by string, h *history) ([]proposal, error) {
	if cat == nil {
		return nil, ErrNoCatalog
	}
	if live(v, s.store.Now())+len(rs) > MaxLive {
		return nil, ErrTooMany
	}
	ps := make([]proposal, 0, len(rs))
	for i, r := range rs {
		p, err := s.decide(ctx, cat, v, r, h)
		if err != nil {
			s.recordRefusal(ctx, cat, v.Task, r, err, by)
			return nil, inList(err, i, len(rs))
		}
		ps = append(ps, p)
	}
	return ps, nil
}

// inList names the entry that a refusal is about.
func inList(err error, i, of int) error {
	var refused *policy.RequestError
	if of == 1 || !errors.As(err, &refused) {
		return err
	}
	e := *refused
	e.Field = "grants[" + strconv.Itoa(i) + "]." + e.Field
	return &e
}

// write makes the grants active, or asks people when a rule says so.
func (s *Service) write(ctx context.Context, seen int64, cat *policy.Catalog, v *policy.TaskView, ps []proposal, c Caller) ([]policy.Grant, error) {
	if rule := ruleOf(ps); rule != nil {
		return s.ask(ctx, seen, v, ps, rule, c)
	}
	gs := make([]policy.Grant, 0, len(ps))
	now := s.store.Now()
	for _, p := range ps {
		life, err := activeLife(policy.Life{State: policy.Pending, Began: now}, p.ttl, v.Task, now)
		if err != nil {
			return nil, err
		}
		p.grant.Life = life
		if err := s.noteHeld(ctx, cat, p.grant); err != nil {
			return nil, err
		}
		gs = append(gs, p.grant)
	}
	rev, err := s.store.CreateGrants(ctx, seen, gs...)
	if err != nil {
		return nil, err
	}
	for _, g := range gs {
		s.recordGrant(ctx, g, policy.StateNone, rev, c.Name, "")
	}
	return gs, nil
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

// proposal is what a request comes to under one catalog.
type proposal struct {
	grant    policy.Grant // without a life
	resolved *policy.Resolved
	ttl      time.Duration
	// rule is what people must approve; nil when nobody is asked. why says what
	// asks for it.
	rule *policy.ApprovalRule
	why  []string
}

// decide makes the grant that r would be under cat, if it may be at all.
func (s *Service) decide(ctx context.Context, cat *policy.Catalog, v *policy.TaskView, r Request, h *history) (proposal, error) {
	if !v.Task.Live(s.store.Now()) {
		return proposal{}, ErrEnded
	}
	agent, ok := cat.Agent(v.Task.Agent)
	if !ok {
		return proposal{}, &policy.RequestError{Code: "unknown_agent", Message: "The catalog in force has no such agent any more."}
	}
	resolved, err := cat.Resolve(agent.Name, r.Capability, r.Params)
	if err != nil {
		return proposal{}, err
	}
	ttl, err := lifetime(resolved.Capability, r.TTL)
	if err != nil {
		return proposal{}, err
	}
	uses, err := resolved.Capability.Uses(r.MaxUses)
	if err != nil {
		return proposal{}, err
	}
	p := proposal{
		grant: policy.Grant{
			ID: policy.GrantID(newID("g_")), Task: v.Task.ID, Agent: agent.Name, Owner: agent.OwnerGroups,
			Instance: v.Task.Instance, Capability: resolved.Capability.Name, Params: resolved.Params,
			Destination: resolved.Destination.Name, Digest: resolved.Digest, Catalog: cat.Revision(), MaxUses: uses,
		},
		resolved: resolved, ttl: ttl, rule: resolved.Capability.Approval,
	}
	if p.rule != nil {
		p.why = []string{"Capability " + resolved.Capability.Name + " (" + string(resolved.Capability.Risk) + " risk) asks for it."}
	}
	err = s.judge(ctx, cat, v, policy.Ask{Agent: agent, Task: &v.Task, Resolved: resolved, TTL: ttl, MaxUses: uses}, &p, h)
	return p, err
}

// minTTL of a grant: with less, its end at a whole second could be now.
const minTTL = time.Second

// lifetime is how long a grant lasts. More than the capability allows is
// refused rather than cut: the agent must know how long it may work.
func lifetime(c *policy.Capability, asked time.Duration) (time.Duration, error) {
	ttl, err := c.Lifetime(asked)
	if err == nil && ttl < minTTL {
		err = &policy.RequestError{Code: policy.CodeParamNotAllowed, Field: "ttl", Message: "ttl must be at least " + minTTL.String()}
	}
	return ttl, err
}

// activeLife makes a pending life active for ttl from now, within its task's.
func activeLife(l policy.Life, ttl time.Duration, t policy.Task, now time.Time) (policy.Life, error) {
	// At a whole second, as tokens do (RFC 7519 section 2, read as most verifiers
	// do): so that grant and credential end together.
	ends := earlier(now.Add(ttl), t.Until).Truncate(time.Second)
	if !ends.After(now) {
		return policy.Life{}, ErrEnded // as good as
	}
	return policy.Transition(l, policy.Activate(ends), now)
}

func live(v *policy.TaskView, now time.Time) int {
	n := 0
	for _, h := range v.Held {
		if h.Grant.Live(now) || h.Grant.State == policy.Pending && !h.Grant.Over(now) {
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
	case errors.Is(err, ErrNotFound), errors.Is(err, ErrProof), errors.Is(err, ErrNoInstance):
		return "not_allowed"
	}
	return "failed"
}

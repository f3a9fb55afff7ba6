package grant

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// Revocation is the ending of everything in a scope at once.
type Revocation struct {
	Scope policy.Scope
	// Grants that were active in it, and the Instances that held them.
	Grants, Instances int
	Ending            Ending
}

// maxScopeName bounds the name of a scope, in bytes.
const maxScopeName = 253

// RevokeScope ends every grant in a scope, by one write whatever their number:
// an agent's, an owner's, a capability's, or everything. It needs no catalog, no
// room in the store and no record that can be written; what is granted meanwhile
// ends too. The tasks stay. The reply waits up to wait for the enforcement.
func (s *Service) RevokeScope(ctx context.Context, c Caller, scope policy.Scope, wait time.Duration) (Revocation, error) {
	if err := s.mayRevoke(c, scope); err != nil {
		return Revocation{}, err
	}
	open, grants := s.open(scope, s.store.Now())
	rev, at, err := s.store.Revoke(ctx, scope, c.Name)
	if err != nil {
		return Revocation{}, err
	}
	s.metrics.endings.WithLabelValues(string(scope.Kind), string(policy.EndRevoked)).Inc()
	s.recordScope(ctx, at, scope, policy.Cause{Revision: rev, Reason: policy.EndRevoked, By: c.Name}, "")
	r := Revocation{Scope: scope}
	r.Grants, r.Ending = s.enforceScope(ctx, scope, open, grants, rev, at, wait)
	r.Instances = len(open)
	return r, nil
}

// enforceScope is enforce for a scope. open is where its grants were open before
// the floor rose, to which it adds what was granted meanwhile.
func (s *Service) enforceScope(
	ctx context.Context, scope policy.Scope, open reach, grants int, rev int64, at time.Time, wait time.Duration,
) (int, Ending) {
	began := time.Now()
	seen, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if s.index.AwaitRevision(seen, rev) == nil {
		more, n := s.open(scope, at)
		open.merge(more)
		grants = max(grants, n)
	}
	return grants, s.enforce(ctx, open, rev, at, max(0, wait-time.Since(began)))
}

// open finds where the grants in a scope were open at a moment, and counts them.
func (s *Service) open(scope policy.Scope, at time.Time) (reach, int) {
	r, n := reach{}, 0
	s.index.EachTask(func(v *policy.TaskView) bool {
		for _, h := range v.Held {
			if h.Under(scope) && h.Open(at) {
				r.add(h.Grant.Instance, h.Grant.Until)
				n++
			}
		}
		return true
	})
	return r, n
}

// mayRevoke says why c cannot revoke the scope. A name that nothing bears is a
// slip of the pen, and told; but only while it is known what there is.
func (s *Service) mayRevoke(c Caller, scope policy.Scope) error {
	if !c.May(policy.VerbRevoke, s.ownersOf(scope)) {
		return ErrOperator
	}
	if scope.Kind == policy.ScopeAll {
		return nil
	}
	if scope.Name == "" || len(scope.Name) > maxScopeName || !isText(scope.Name) {
		return ErrUnknown
	}
	if cat := s.index.Catalog(); cat == nil || !s.index.IsFresh() || s.inCatalog(cat, scope) || s.anyUnder(scope) {
		return nil
	}
	return ErrUnknown
}

// ownersOf lists who owns everything in a scope; nobody owns what is wider.
func (s *Service) ownersOf(scope policy.Scope) []string {
	switch scope.Kind {
	case policy.ScopeOwner:
		return []string{scope.Name}
	case policy.ScopeAgent:
		return s.ownerOf(scope.Name)
	}
	return nil
}

func (*Service) inCatalog(cat *policy.Catalog, scope policy.Scope) bool {
	switch scope.Kind {
	case policy.ScopeAgent:
		_, ok := cat.Agent(scope.Name)
		return ok
	case policy.ScopeCapability:
		_, ok := cat.Capability(scope.Name)
		return ok
	}
	for _, a := range cat.Agents() {
		for _, owner := range a.OwnerGroups {
			if scope.Kind == policy.ScopeOwner && owner == scope.Name {
				return true
			}
		}
	}
	return false
}

// anyUnder reports whether any grant that is still known is in the scope.
func (s *Service) anyUnder(scope policy.Scope) (found bool) {
	s.index.EachTask(func(v *policy.TaskView) bool {
		for _, h := range v.Held {
			found = found || h.Under(scope)
		}
		return !found
	})
	return found
}

// recordScope puts on record that a whole scope ended. It never waits. Each
// grant's own end follows, written by the sweeper.
func (s *Service) recordScope(ctx context.Context, at time.Time, scope policy.Scope, c policy.Cause, words string) {
	s.audit.Transition(ctx, scopeTransition(at, scope, c, words))
}

func scopeTransition(at time.Time, scope policy.Scope, c policy.Cause, words string) audit.Transition {
	t := audit.Transition{
		Time: at, Scope: scope.String(), From: policy.Active, To: policy.Ended, End: c.Reason, By: c.By, Why: words, Store: c.Revision,
	}
	switch scope.Kind {
	case policy.ScopeAgent:
		t.Agent = scope.Name
	case policy.ScopeOwner:
		t.Owner = []string{scope.Name}
	case policy.ScopeCapability:
		t.Capability = scope.Name
	}
	return t
}

// EndingOf says how far an ending is that was accepted at a revision: of a
// scope, or of one grant or task. With wait it waits for the enforcement.
type EndingOf struct {
	Scope    policy.Scope
	Grant    policy.GrantID // in place of a scope
	Revision int64
}

// Enforcement answers for an ending that somebody else may have asked for.
func (s *Service) Enforcement(ctx context.Context, c Caller, of EndingOf, wait time.Duration) (Ending, error) {
	if of.Revision <= 0 {
		return Ending{}, invalid("revision", "that of an ending that was accepted")
	}
	seen, cancel := context.WithTimeout(ctx, max(wait, instant))
	defer cancel()
	if err := s.index.AwaitRevision(seen, of.Revision); err != nil {
		return Ending{}, invalid("revision", "that of an ending that was accepted; none so high is known here yet")
	}
	open, at, err := s.reachOf(ctx, c, of)
	if err != nil {
		return Ending{}, err
	}
	return s.reached(seen, open, of.Revision, at), nil
}

// reachOf finds whom an ending concerned, and when it was accepted.
func (s *Service) reachOf(ctx context.Context, c Caller, of EndingOf) (reach, time.Time, error) {
	if of.Grant != "" {
		v, err := s.taskOf(ctx, of.Grant)
		if v, err = s.readable(c, v, err); err != nil {
			return nil, time.Time{}, err
		}
		h := held(v, of.Grant)
		if h == nil {
			return nil, time.Time{}, ErrNotFound
		}
		return reach{h.Grant.Instance: h.Grant.Until}, h.Grant.EndedAt, nil
	}
	if of.Scope.Kind == policy.ScopeTask {
		v, err := s.view(ctx, policy.TaskID(of.Scope.Name))
		if v, err = s.readable(c, v, err); err != nil {
			return nil, time.Time{}, err
		}
		return reach{v.Task.Instance: lastUntil(v, v.Task.EndedAt)}, v.Task.EndedAt, nil
	}
	if !c.May(policy.VerbView, s.ownersOf(of.Scope)) {
		return nil, time.Time{}, ErrOperator
	}
	floor := s.index.Floor(of.Scope).Cause()
	if floor.Revision != of.Revision { // raised again since, or out of space and deleted
		floor.At = time.Time{}
	}
	open, _ := s.open(of.Scope, floor.At)
	return open, floor.At, nil
}

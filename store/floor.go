package store

import (
	"sync"

	"github.com/exeat-dev/exeat/policy"
)

// floors gives each scope its one Floor, which every grant under it shares.
type floors struct {
	mu sync.Mutex
	by map[policy.Scope]*policy.Floor
}

func (f *floors) of(s policy.Scope) *policy.Floor {
	f.mu.Lock()
	defer f.mu.Unlock()
	floor := f.by[s]
	if floor == nil {
		if f.by == nil {
			f.by = make(map[policy.Scope]*policy.Floor)
		}
		floor = new(policy.Floor)
		f.by[policy.Scope{Kind: policy.ScopeKind(intern(string(s.Kind))), Name: intern(s.Name)}] = floor
	}
	return floor
}

// each visits the floors that were raised.
func (f *floors) each(fn func(policy.Scope, policy.Cause) bool) {
	f.mu.Lock()
	raised := make(map[policy.Scope]policy.Cause)
	for s, floor := range f.by {
		if floor.Revision() > 0 {
			raised[s] = floor.Cause()
		}
	}
	f.mu.Unlock()
	for s, c := range raised {
		if !fn(s, c) {
			return
		}
	}
}

// over lists the floors of every scope that a grant is under.
func (f *floors) over(g policy.Grant) []*policy.Floor {
	scopes := policy.ScopesOf(g)
	list := make([]*policy.Floor, len(scopes))
	for i, s := range scopes {
		list[i] = f.of(s)
	}
	return list
}

// forget drops the floor of a task that is no more.
func (f *floors) forget(s policy.Scope) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.by, s)
}

package policy

import (
	"slices"
	"sync/atomic"
	"time"
)

// String names the scope as kind/name, "all" for everything.
func (s Scope) String() string {
	if s.Kind == ScopeAll {
		return string(ScopeAll)
	}
	return string(s.Kind) + "/" + s.Name
}

// Scope is what a floor ends at once: everything, an owner's, an agent's, a
// capability's, a task's, or what descends from a parent grant.
type Scope struct {
	Kind ScopeKind
	Name string // empty for ScopeAll
}

// ScopeKind names the kinds of scope.
type ScopeKind string

// The scopes.
const (
	ScopeAll        ScopeKind = "all"
	ScopeOwner      ScopeKind = "owner"
	ScopeAgent      ScopeKind = "agent"
	ScopeCapability ScopeKind = "capability"
	ScopeTask       ScopeKind = "task"
	ScopeParent     ScopeKind = "parent"
)

// ScopesOf lists the scopes that a grant is under.
func ScopesOf(g Grant) []Scope {
	s := []Scope{{Kind: ScopeAll}, {ScopeAgent, g.Agent}, {ScopeCapability, g.Capability}, {ScopeTask, string(g.Task)}}
	for _, o := range g.Owner {
		s = append(s, Scope{ScopeOwner, o})
	}
	return s
}

// Cause says why, when and by whom a floor was raised.
type Cause struct {
	Revision int64 // to which it was raised
	Reason   EndReason
	By       string
	At       time.Time // when it was accepted; zero when that is not known
}

// Floor holds the store revision below which everything in its scope has
// ended. It only rises. The zero Floor has ended nothing.
type Floor struct {
	rev   atomic.Int64
	cause atomic.Pointer[Cause] // of the latest rise that said one
}

// Raise lifts the floor to rev; a lower one changes nothing.
func (f *Floor) Raise(rev int64) {
	for {
		old := f.rev.Load()
		if rev <= old || f.rev.CompareAndSwap(old, rev) {
			return
		}
	}
}

// RaiseFor lifts the floor for a cause. One goroutine calls it at a time.
func (f *Floor) RaiseFor(c Cause) {
	if c.Revision > f.Revision() {
		f.cause.Store(&c)
	}
	f.Raise(c.Revision)
}

// Cause of where the floor is. A rise that gave none is a revocation.
func (f *Floor) Cause() Cause {
	rev := f.Revision()
	if c := f.cause.Load(); c != nil && c.Revision >= rev && c.Reason.Valid() {
		return *c
	}
	return Cause{Revision: rev, Reason: EndRevoked}
}

// Revision is where the floor is.
func (f *Floor) Revision() int64 { return f.rev.Load() }

// Held is a grant as a replica's index holds it: immutable, but for the floors
// that it shares.
type Held struct {
	Grant Grant
	// MadeAt is the store revision at which the grant was made.
	MadeAt int64
	// ChangedAt is that of the last change of its record, such as becoming
	// active: what is ready for it has applied that one.
	ChangedAt int64
	// Floors of every scope that the grant is under. None is a defect, and so
	// reads as ended.
	Floors []*Floor
	// Resolved is the grant's capability with its parameters filled in, under
	// the catalog in force; nil when that catalog no longer gives the same.
	Resolved *Resolved
	// Fallen is why Resolved is nil, where it is: EndPolicyChanged or
	// EndContextChanged.
	Fallen EndReason
	// Credential is sealed; nil until it was minted.
	Credential *SealedCredential
	// Ground keeps what policies make of the grant; nil: nothing is kept.
	Ground *Ground
	// Use is what was used of it, as far as this replica knows.
	Use Use
}

// SealedCredential is what the store holds for a grant: only role authz opens it.
type SealedCredential struct {
	Grant    GrantID
	Revision int64 // store revision of this credential
	Sealed   []byte
}

// Raised reports whether a floor has ended the grant, whatever its record says.
func (h *Held) Raised() bool {
	if len(h.Floors) == 0 {
		return true
	}
	for _, f := range h.Floors {
		if f.Revision() > h.MadeAt {
			return true
		}
	}
	return false
}

// RaisedBy is why a floor has ended the grant: of several, the first that did.
// ok is false when none has.
func (h *Held) RaisedBy() (first Cause, ok bool) {
	for _, f := range h.Floors {
		if c := f.Cause(); c.Revision > h.MadeAt && (!ok || c.Revision < first.Revision) {
			first, ok = c, true
		}
	}
	return first, ok
}

// Under reports whether the grant is under a scope: as ScopesOf lists them,
// without the list, for who looks at all grants.
func (h *Held) Under(s Scope) bool {
	g := &h.Grant
	switch s.Kind {
	case ScopeAll:
		return true
	case ScopeAgent:
		return s.Name == g.Agent
	case ScopeCapability:
		return s.Name == g.Capability
	case ScopeTask:
		return s.Name == string(g.Task)
	case ScopeOwner:
		return slices.Contains(g.Owner, s.Name)
	}
	return slices.Contains(ScopesOf(*g), s)
}

// Open reports whether, at a moment, the grant was active: what it had ended by
// then, by whatever reason but its own time, it is not.
func (h *Held) Open(at time.Time) bool {
	g := &h.Grant
	switch {
	case g.Activated.IsZero() || !at.Before(g.Until):
		return false
	case g.State == Ended:
		return !g.EndedAt.Before(at)
	}
	c, raised := h.RaisedBy()
	return !raised || !c.At.Before(at)
}

// TaskView is one task with its grants, immutable.
type TaskView struct {
	Task Task
	Held []*Held
	// Cuts holds, per destination, the store revision of its last cut; streams
	// of the chain that was built under an older one are to be cut.
	Cuts map[string]int64
	// Touches are what the task has reached, sorted, while a policy asks for it.
	Touches []Touch
	// Revision is the store revision of the last change to any of this but uses.
	Revision int64
}

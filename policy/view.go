package policy

import "sync/atomic"

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

// Floor holds the store revision below which everything in its scope has
// ended. It only rises. The zero Floor has ended nothing.
type Floor struct{ rev atomic.Int64 }

// Raise lifts the floor to rev; a lower one changes nothing.
func (f *Floor) Raise(rev int64) {
	for {
		old := f.rev.Load()
		if rev <= old || f.rev.CompareAndSwap(old, rev) {
			return
		}
	}
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

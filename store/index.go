package store

import (
	"context"

	"github.com/exeat-dev/exeat/policy"
)

// Index is this process's view of everything that authorisation depends on.
// Reads take no lock.
type Index struct{}

// Catalog in force, compiled; nil before the first is published.
func (x *Index) Catalog() *policy.Catalog { panic("contract") }
func (x *Index) Revision() int64          { panic("contract") }

// Task gives a task with its grants, or nil.
func (x *Index) Task(id policy.TaskID) *policy.TaskView { panic("contract") }

// TaskOfGrant finds the task of a grant, or "".
func (x *Index) TaskOfGrant(id policy.GrantID) policy.TaskID { panic("contract") }

// Instance lists an instance's tasks (ended ones until retention), in ID order. Not for the check path.
func (x *Index) Instance(i policy.Instance) []*policy.TaskView { panic("contract") }

// EachTask visits all tasks; for sweepers, not for the check path.
func (x *Index) EachTask(fn func(*policy.TaskView) bool) { panic("contract") }

// Floor of a scope, never nil; shared with every Held under it.
func (x *Index) Floor(s policy.Scope) *policy.Floor { panic("contract") }

// Fresh waits (briefly, per staleness bound and ctx) until this replica is fresh; false: deny state_stale.
// When already fresh it neither blocks nor allocates.
func (x *Index) Fresh(ctx context.Context) bool { panic("contract") }

// Begin marks the start of a check, which then reads nothing older than the
// current revision; the replica acknowledges a revision only when no check
// that began before it was applied still runs. Done must be called.
func (x *Index) Begin() Check { panic("contract") }

// Check is a running check.
type Check struct{}

func (c Check) Done() { panic("contract") }

// Batch says what changed up to Revision, coalesced since the last Next.
type Batch struct {
	Revision  int64
	All       bool // everything may have (first batch, catalog, rebuild, a wide floor)
	Tasks     map[policy.TaskID]struct{}
	Instances map[policy.Instance]struct{}
}

// Subscribe follows changes; the first Batch comes at once with All set. A slow subscriber
// coalesces, it never holds up the index.
func (x *Index) Subscribe() *Subscription { panic("contract") }

type Subscription struct{}

func (s *Subscription) Next(ctx context.Context) (Batch, error) { panic("contract") }
func (s *Subscription) Close()                                  { panic("contract") }

// AwaitTask returns the view once cond holds of it (it is called with nil when there is none), or ctx's error.
func (x *Index) AwaitTask(ctx context.Context, id policy.TaskID, cond func(*policy.TaskView) bool) (*policy.TaskView, error) {
	panic("contract")
}

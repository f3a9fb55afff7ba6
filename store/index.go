package store

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Index is this process's view of everything that authorisation depends on.
// Reads take no lock.
type Index struct {
	state    atomic.Pointer[state]
	rev      atomic.Int64 // applied: everything up to it shows
	real     atomic.Int64 // the latest of these that was more than a beat or a use
	applied  chan struct{}
	fresh    *freshness
	checks   *checks
	watchers watchers
	closed   chan struct{}
}

func newIndex(staleness time.Duration) *Index {
	x := &Index{applied: make(chan struct{}, 1), checks: newChecks(), closed: make(chan struct{})}
	x.fresh = &freshness{start: time.Now(), bound: staleness, kick: make(chan struct{}, 1), closed: x.closed}
	x.state.Store(newState(nil))
	return x
}

func (x *Index) close() { close(x.closed) }

// Catalog in force, compiled; nil before the first is published, and when this
// program cannot read the one in force.
func (x *Index) Catalog() *policy.Catalog { return x.state.Load().catalog.Load().compiled }

// Revision up to which the store's changes show in the index.
func (x *Index) Revision() int64 { return x.rev.Load() }

// Task gives a task with its grants, or nil.
func (x *Index) Task(id policy.TaskID) *policy.TaskView {
	if e, ok := x.state.Load().tasks.get(id); ok {
		return e.view.Load()
	}
	return nil
}

// TaskOfGrant finds the task of a grant, or "".
func (x *Index) TaskOfGrant(id policy.GrantID) policy.TaskID {
	if e, ok := x.state.Load().grants.get(id); ok {
		return e.id
	}
	return ""
}

// TaskOfApproval finds the task of a request that people decide on, or "".
func (x *Index) TaskOfApproval(id policy.ApprovalID) policy.TaskID {
	if e, ok := x.state.Load().approvals.get(id); ok {
		return e.id
	}
	return ""
}

// EachApproval visits the requests that people decided or decide on, with their
// tasks, until those are dropped. Not for the check path.
func (x *Index) EachApproval(fn func(policy.ApprovalID, *policy.TaskView) bool) {
	for id, e := range x.state.Load().approvals.all() {
		if v := e.view.Load(); v != nil && !fn(id, v) {
			return
		}
	}
}

// Instance lists an instance's tasks (ended ones until retention), in ID order. Not for the check path.
func (x *Index) Instance(i policy.Instance) []*policy.TaskView { return x.state.Load().instance(i) }

// EachTask visits all tasks; for sweepers, not for the check path.
func (x *Index) EachTask(fn func(*policy.TaskView) bool) {
	for _, e := range x.state.Load().tasks.all() {
		if v := e.view.Load(); v != nil && !fn(v) {
			return
		}
	}
}

// Floor of a scope, never nil; shared with every Held under it.
func (x *Index) Floor(s policy.Scope) *policy.Floor { return x.state.Load().floors.of(s) }

// Fresh waits (briefly, per staleness bound and ctx) until this replica is fresh; false: deny state_stale.
// When already fresh it neither blocks nor allocates.
func (x *Index) Fresh(ctx context.Context) bool {
	if x.fresh.fresh() {
		return true
	}
	return x.holdForFresh(ctx)
}

func (x *Index) holdForFresh(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, holdFor)
	defer cancel()
	return x.fresh.await(ctx) == nil
}

// IsFresh reports whether this replica is fresh now; for those who only look.
func (x *Index) IsFresh() bool { return x.fresh.fresh() }

// Age is how long ago the state that the index shows was surely current.
func (x *Index) Age() time.Duration { return x.fresh.age() }

// replace shows another state altogether.
func (x *Index) replace(st *state, d *delta) {
	x.state.Store(st)
	d.all = true
	x.show(d)
}

// show makes a published delta's revision the index's and tells everybody.
func (x *Index) show(d *delta) {
	x.rev.Store(d.rev)
	if d.real {
		x.real.Store(d.rev)
	}
	select {
	case x.applied <- struct{}{}:
	default:
	}
	if d.real || d.all {
		x.watchers.tell(d)
		return
	}
	x.watchers.wakeAll(d)
}

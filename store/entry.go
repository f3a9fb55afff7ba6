package store

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/exeat-dev/exeat/policy"
)

// entry is one task in the index. Readers see the view; all else is the
// applying goroutine's.
type entry struct {
	view atomic.Pointer[policy.TaskView]

	id       policy.TaskID
	task     *policy.Task // nil: there is no record, or it cannot be read
	instance policy.Instance
	grants   []*holding       // by grant ID
	cuts     map[string]int64 // never changed in place: views share it
	touches  []policy.Touch   // likewise; sorted
	rev      int64            // of the last change
}

// holding is one grant of an entry.
type holding struct {
	id         policy.GrantID
	own        *policy.Held // as its record says; nil: no record
	credential *policy.SealedCredential
	use        *policy.Use // nil: never used
	// folded is own with its task's end folded in; nil until that is asked for.
	folded *policy.Held
}

// hold takes in what is to be shown of the grant from now on.
func (h *holding) hold(own *policy.Held) {
	if own != nil {
		own.Credential = h.credential
		own.Use = policy.Use{}
		if h.use != nil {
			own.Use = *h.use
		}
	}
	h.own, h.folded = own, nil
}

func (e *entry) find(id policy.GrantID) (int, bool) {
	return slices.BinarySearchFunc(e.grants, id, func(h *holding, id policy.GrantID) int { return cmp.Compare(h.id, id) })
}

// holding finds or makes the place of a grant.
func (e *entry) holding(id policy.GrantID) *holding {
	i, ok := e.find(id)
	if !ok {
		e.grants = slices.Insert(e.grants, i, &holding{id: id})
	}
	return e.grants[i]
}

func (e *entry) drop(id policy.GrantID) {
	if i, ok := e.find(id); ok {
		e.grants = slices.Delete(e.grants, i, i+1)
	}
}

// cut notes the last cut of a destination; 0 forgets it.
func (e *entry) cut(destination string, rev int64) {
	next := maps.Clone(e.cuts)
	if next == nil {
		next = make(map[string]int64)
	}
	if rev == 0 {
		delete(next, destination)
	} else {
		next[destination] = max(rev, next[destination])
	}
	e.cuts = next
}

// reached notes what the task has reached, or forgets it.
func (e *entry) reached(t policy.Touch, gone bool) {
	at, known := slices.BinarySearchFunc(e.touches, t, compareTouches)
	next := slices.Clone(e.touches)
	switch {
	case gone && known:
		next = slices.Delete(next, at, at+1)
	case !gone && !known:
		next = slices.Insert(next, at, t)
	}
	e.touches = next
}

func compareTouches(a, b policy.Touch) int {
	return cmp.Or(cmp.Compare(a.Destination, b.Destination), cmp.Compare(a.Sensitivity, b.Sensitivity))
}

// empty reports whether nothing is left of the task.
func (e *entry) empty() bool {
	return e.task == nil && !slices.ContainsFunc(e.grants, func(h *holding) bool { return h.own != nil })
}

// publish makes the view that readers see from now on. The cost is that of
// this task alone.
func (e *entry) publish() {
	if e.empty() {
		e.view.Store(nil)
		return
	}
	v := &policy.TaskView{Task: e.subject(), Cuts: e.cuts, Touches: e.touches, Revision: e.rev, Held: make([]*policy.Held, 0, len(e.grants))}
	for _, h := range e.grants {
		if h.own != nil {
			v.Held = append(v.Held, h.under(v.Task.Life))
		}
	}
	e.view.Store(v)
}

// subject is the task as its record says. Without a record the task has ended
// (that is how a task ends when there is no space for a tombstone), and what
// is left of it is there to be cut and dropped.
func (e *entry) subject() policy.Task {
	if e.task != nil {
		return *e.task
	}
	t := policy.Task{ID: e.id, Life: policy.Life{State: policy.Ended, End: policy.EndRevoked}}
	for _, h := range e.grants {
		if h.own != nil {
			t.Agent, t.Instance = h.own.Grant.Agent, h.own.Grant.Instance
		}
	}
	return t
}

// under gives the grant as its task's life leaves it: when the task has ended,
// so has each of its grants, then and for the same reason.
func (h *holding) under(task policy.Life) *policy.Held {
	if task.State != policy.Ended || h.own.Grant.State == policy.Ended {
		return h.own
	}
	if h.folded == nil {
		held := *h.own
		held.Grant.State, held.Grant.End, held.Grant.EndedAt = policy.Ended, task.End, task.EndedAt
		h.folded = &held
	}
	return h.folded
}

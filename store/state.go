package store

import (
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/record"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// state is everything that the index holds of one history of the store. It is
// made anew by a rebuild; one goroutine changes it, readers look on.
type state struct {
	log     *slog.Logger
	cluster uint64 // etcd's ID
	tasks   *table[policy.TaskID, *entry]
	grants  *table[policy.GrantID, *entry]
	// approvals leads from a request that people decide on to its task.
	approvals *table[policy.ApprovalID, *entry]
	floors    floors
	catalog   atomic.Pointer[catalog]
	epoch     atomic.Pointer[string]
	resolve   resolver // the applying goroutine's

	mu         sync.Mutex
	byInstance map[policy.Instance]map[policy.TaskID]*entry
}

func newState(log *slog.Logger) *state {
	st := &state{
		log: log, tasks: newTable[policy.TaskID, *entry](), grants: newTable[policy.GrantID, *entry](),
		approvals:  newTable[policy.ApprovalID, *entry](),
		byInstance: make(map[policy.Instance]map[policy.TaskID]*entry),
	}
	st.catalog.Store(new(catalog))
	return st
}

// delta is what a run of changes did, to be published together.
type delta struct {
	rev     int64
	dirty   map[policy.TaskID]*entry
	all     bool // anything may have changed
	real    bool // more than beats and uses
	catalog bool
	epoch   bool // another history: rebuild
	beats   []beatOf
}

// beatOf is a beat and whose it is.
type beatOf struct {
	replica string
	mod     int64 // the key's revision
	*record.Beat
}

func newDelta() *delta { return &delta{dirty: make(map[policy.TaskID]*entry)} }

// apply takes in one change. Nothing of it shows before publish, but floors:
// they may only end, and sooner is better.
func (st *state) apply(d *delta, ev *clientv3.Event) {
	kv := ev.Kv
	key := string(kv.Key)
	gone := ev.Type == mvccpb.DELETE
	d.rev = max(d.rev, kv.ModRevision)
	if strings.HasPrefix(key, prefixBeat) {
		st.applyBeat(d, kv, gone)
		return
	}
	if n := names(key, prefixUse, 2); n != nil {
		st.applyUse(st.dirty(d, n[0]), policy.GrantID(n[1]), kv, gone)
		return
	}
	d.real = true
	switch {
	case key == keyCatalog:
		st.applyCatalog(d, kv, gone)
	case key == keyEpoch:
		st.applyEpoch(d, kv)
	case strings.HasPrefix(key, prefixFloor):
		st.applyFloor(d, key, kv, gone)
	default:
		st.applyOfTask(d, key, kv, gone)
	}
}

// applyOfTask takes in a change below task/, grant/, credential/, cut/ or touch/.
func (st *state) applyOfTask(d *delta, key string, kv *mvccpb.KeyValue, gone bool) {
	if n := names(key, prefixTask, 1); n != nil {
		st.applyTask(st.touch(d, n[0], kv), kv, gone)
	} else if n := names(key, prefixGrant, 2); n != nil {
		st.applyGrant(st.touch(d, n[0], kv), policy.GrantID(n[1]), kv, gone)
	} else if n := names(key, prefixCredential, 2); n != nil {
		st.applyCredential(st.touch(d, n[0], kv), policy.GrantID(n[1]), kv, gone)
	} else if n := names(key, prefixCut, 2); n != nil {
		rev := kv.ModRevision
		if gone {
			rev = 0
		}
		st.touch(d, n[0], kv).cut(intern(n[1]), rev)
	} else if n := names(key, prefixTouch, 3); n != nil {
		st.touch(d, n[0], kv).reached(policy.Touch{Destination: intern(n[1]), Sensitivity: v1alpha1.Sensitivity(intern(n[2]))}, gone)
	}
}

// touch finds or makes a task's entry and notes the change.
func (st *state) touch(d *delta, id string, kv *mvccpb.KeyValue) *entry {
	e := st.dirty(d, id)
	e.rev = max(e.rev, kv.ModRevision)
	return e
}

// dirty finds or makes a task's entry and has it published.
func (st *state) dirty(d *delta, id string) *entry {
	e := d.dirty[policy.TaskID(id)]
	if e == nil {
		var ok bool
		if e, ok = st.tasks.get(policy.TaskID(id)); !ok {
			e = &entry{id: policy.TaskID(id)}
			st.tasks.add(e.id, e)
		}
		d.dirty[e.id] = e
	}
	return e
}

func (st *state) applyTask(e *entry, kv *mvccpb.KeyValue, gone bool) {
	e.task = nil
	for _, h := range e.grants {
		h.folded = nil
	}
	if gone {
		return
	}
	t, err := decodeTask(e.id, kv.Value)
	if err != nil {
		st.log.Error("a task's record cannot be read; the task is denied", "task", e.id, "error", err)
		return
	}
	e.task = &t
}

func (st *state) applyGrant(e *entry, id policy.GrantID, kv *mvccpb.KeyValue, gone bool) {
	h := e.holding(id)
	if gone {
		// Out of space a grant ends by its deletion, and its cut has no key.
		if h.own != nil && h.own.Grant.State == policy.Active && e.task != nil {
			e.cut(h.own.Grant.Destination, kv.ModRevision)
		}
		var of policy.ApprovalID
		if h.own != nil {
			of = h.own.Grant.Approval
		}
		h.hold(nil)
		e.forget(st, h)
		e.forgetApproval(st, of)
		return
	}
	g, err := decodeGrant(e.id, id, kv.Value)
	if err != nil {
		st.log.Error("a grant's record cannot be read; the grant is denied", "grant", id, "error", err)
		h.hold(nil)
		return
	}
	h.hold(&policy.Held{
		Grant: g, MadeAt: kv.CreateRevision, ChangedAt: kv.ModRevision, Floors: st.floors.over(g),
		Resolved: st.resolve.resolve(g), Ground: new(policy.Ground),
	})
	if _, ok := st.grants.get(id); !ok {
		st.grants.add(id, e)
	}
	if g.Approval != "" {
		if _, ok := st.approvals.get(g.Approval); !ok {
			st.approvals.add(g.Approval, e)
		}
	}
}

func (st *state) applyCredential(e *entry, id policy.GrantID, kv *mvccpb.KeyValue, gone bool) {
	h := e.holding(id)
	h.credential = nil
	if !gone {
		c, err := decodeCredential(id, kv.ModRevision, kv.Value)
		if err != nil {
			st.log.Error("a credential's record cannot be read; its grant has none", "grant", id, "error", err)
		}
		h.credential = c
	}
	if h.own != nil { // views share the old one, which must not change
		own := *h.own
		h.hold(&own)
	}
	e.forget(st, h)
}

// applyUse: a record that cannot be read leaves nothing to be used. Uses are
// many, end nothing and change no configuration: they are shown, but neither
// announced to those who follow nor acknowledged for themselves.
func (st *state) applyUse(e *entry, id policy.GrantID, kv *mvccpb.KeyValue, gone bool) {
	h := e.holding(id)
	h.use = nil
	if !gone {
		u, err := decodeUse(kv.Value)
		if err != nil {
			st.log.Error("a grant's uses cannot be read; it has none left", "grant", id, "error", err)
			u = policy.UsedUp()
		}
		h.use = &u
	}
	if h.own != nil { // views share the old one, which must not change
		own := *h.own
		h.hold(&own)
	}
	e.forget(st, h)
}

// forget drops a grant of which nothing is left.
func (e *entry) forget(st *state, h *holding) {
	if h.own == nil && h.credential == nil && h.use == nil {
		e.drop(h.id)
		st.grants.remove(h.id)
	}
}

// forgetApproval drops a request of which no grant is left.
func (e *entry) forgetApproval(st *state, id policy.ApprovalID) {
	if id == "" || slices.ContainsFunc(e.grants, func(h *holding) bool { return h.own != nil && h.own.Grant.Approval == id }) {
		return
	}
	st.approvals.remove(id)
}

// applyFloor needs no record: what counts is when the key was written.
func (st *state) applyFloor(d *delta, key string, kv *mvccpb.KeyValue, gone bool) {
	n := names(key, prefixFloor, 2)
	if n == nil {
		return
	}
	scope := policy.Scope{Kind: policy.ScopeKind(n[0]), Name: n[1]}
	if gone {
		if scope.Kind == policy.ScopeTask {
			st.floors.forget(scope)
		}
		return
	}
	st.floors.of(scope).Raise(kv.ModRevision)
	if scope.Kind == policy.ScopeTask {
		st.touch(d, scope.Name, kv)
		return
	}
	d.all = true
}

// applyCatalog: one that this program cannot read permits nothing. Going on
// with the last one would be to disagree with the other replicas.
func (st *state) applyCatalog(d *delta, kv *mvccpb.KeyValue, gone bool) {
	c := &catalog{rev: kv.ModRevision}
	if !gone {
		r := new(record.Catalog)
		err := decode(kv.Value, r)
		if err == nil {
			c.compiled, err = compileSource(r.GetSource())
		}
		if err != nil {
			st.log.Error("the catalog in force cannot be read; everything is denied", "revision", kv.ModRevision, "error", err)
		}
	}
	st.catalog.Store(c)
	st.resolve = resolver{catalog: c.compiled}
	d.catalog, d.all = true, true
}

func (st *state) applyEpoch(d *delta, kv *mvccpb.KeyValue) {
	r := new(record.Epoch)
	if err := decode(kv.Value, r); err != nil {
		st.log.Error("the store's epoch cannot be read", "error", err)
	}
	id := r.GetId()
	old := st.epoch.Swap(&id)
	d.epoch = d.epoch || old != nil && *old != id
}

func (st *state) epochName() string {
	if e := st.epoch.Load(); e != nil {
		return *e
	}
	return ""
}

func (st *state) applyBeat(d *delta, kv *mvccpb.KeyValue, gone bool) {
	if gone {
		return
	}
	r := new(record.Beat)
	if n := names(string(kv.Key), prefixBeat, 1); n != nil && decode(kv.Value, r) == nil {
		d.beats = append(d.beats, beatOf{n[0], kv.ModRevision, r})
	}
}

// publish shows readers what the changes did.
func (st *state) publish(d *delta) {
	if d.catalog {
		st.reresolve(d)
	}
	for id, e := range d.dirty {
		e.publish()
		st.place(e)
		if e.empty() {
			st.tasks.remove(id)
			st.floors.forget(policy.Scope{Kind: policy.ScopeTask, Name: string(id)})
		}
	}
}

// reresolve fills every grant's capability in again, under a new catalog. It
// is the one change whose cost is that of everything; readers go on meanwhile.
func (st *state) reresolve(d *delta) {
	for id, e := range st.tasks.all() {
		for _, h := range e.grants {
			if h.own == nil {
				continue
			}
			own := *h.own
			own.Resolved = st.resolve.resolve(own.Grant)
			h.hold(&own)
		}
		e.rev = max(e.rev, d.rev)
		d.dirty[id] = e
	}
}

// place keeps the list of each instance's tasks.
func (st *state) place(e *entry) {
	st.mu.Lock()
	defer st.mu.Unlock()
	var at policy.Instance
	if v := e.view.Load(); v != nil {
		at = v.Task.Instance
	}
	if at == e.instance && at != "" && st.byInstance[at][e.id] == e {
		return
	}
	if of := st.byInstance[e.instance]; of != nil {
		delete(of, e.id)
		if len(of) == 0 {
			delete(st.byInstance, e.instance)
		}
	}
	if at == "" {
		return // e.instance stays: whoever follows it must learn that the task is gone
	}
	e.instance = at
	if st.byInstance[at] == nil {
		st.byInstance[at] = make(map[policy.TaskID]*entry)
	}
	st.byInstance[at][e.id] = e
}

// instance lists an instance's tasks in ID order.
func (st *state) instance(i policy.Instance) []*policy.TaskView {
	st.mu.Lock()
	defer st.mu.Unlock()
	list := make([]*policy.TaskView, 0, len(st.byInstance[i]))
	for _, e := range st.byInstance[i] {
		if v := e.view.Load(); v != nil {
			list = append(list, v)
		}
	}
	slices.SortFunc(list, func(a, b *policy.TaskView) int { return strings.Compare(string(a.Task.ID), string(b.Task.ID)) })
	return list
}

package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	"pgregory.net/rapid"
)

// model is what a store should hold, by the plainest means.
type model struct {
	tasks  map[policy.TaskID]policy.State
	grants map[policy.GrantID]*modelGrant
	floors map[policy.Scope]int64
	// suspended: the fixtures' agent is.
	suspended bool
}

type modelGrant struct {
	grant policy.Grant
	state policy.State
	made  int64
}

// active by the model: its own state, its task's and every floor.
func (m *model) active(g *modelGrant) bool {
	ok := g.state == policy.Active && m.tasks[g.grant.Task] == policy.Active
	for _, sc := range policy.ScopesOf(g.grant) {
		ok = ok && m.floors[sc] <= g.made
	}
	return ok
}

// history runs random operations on two replicas and on the model.
type history struct {
	stores []*store.Store
	m      *model
	last   int64
}

// Whatever is done, on whichever replica: both show the same active grants as
// the model.
func TestRandomHistoriesShowWhatTheModelHolds(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 2)
	storetest.Publish(t, stores[0], storetest.Set())
	storetest.Await(t, stores[1], stores[0].Index().Revision())
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{stores: stores, m: &model{
			tasks: make(map[policy.TaskID]policy.State), grants: make(map[policy.GrantID]*modelGrant), floors: make(map[policy.Scope]int64),
		}}
		h.resumeAgent(t, rt, stores[0]) // the last history may have left it suspended
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			h.step(t, rt)
		}
		for _, s := range stores {
			storetest.Await(t, s, h.last)
			h.compare(rt, s)
		}
	})
}

func (h *history) step(t *testing.T, rt *rapid.T) {
	s := h.stores[rapid.IntRange(0, 1).Draw(rt, "replica")]
	task, grant := drawKey(rt, "task", h.m.tasks), drawKey(rt, "grant", h.m.grants)
	op := rapid.SampledFrom([]string{"task", "grant", "grant", "end grant", "end task", "drop task", "floor", "pause", "resume", "suspend", "resume agent"}).Draw(rt, "op")
	switch {
	case op == "task" || task == "":
		h.createTask(t, rt, s)
	case op == "grant" || grant == "":
		h.createGrant(t, rt, s, task)
	case op == "end grant":
		h.endGrant(t, rt, s, grant)
	case op == "end task":
		_, rev, err := s.ChangeTask(t.Context(), task, end(s, policy.EndCompleted))
		h.did(rt, rev, err, policy.ErrEnded)
		h.m.tasks[task] = policy.Ended
	case op == "drop task":
		h.dropTask(t, rt, s, task)
	case op == "pause":
		h.pause(t, rt, s, task)
	case op == "resume":
		_, rev, err := s.ChangeTask(t.Context(), task, on(s, policy.EventResume))
		h.did(rt, rev, err, policy.ErrEnded, policy.ErrTransition)
		if err == nil {
			h.m.tasks[task] = policy.Active
		}
	case op == "suspend":
		_, rev, err := s.Suspend(t.Context(), policy.Suspension{Agent: storetest.Agent, By: "test"})
		h.did(rt, rev, err)
		h.m.suspended, h.m.floors[policy.Scope{Kind: policy.ScopeAgent, Name: storetest.Agent}] = true, rev
	case op == "resume agent":
		h.resumeAgent(t, rt, s)
	default:
		scope := rapid.SampledFrom([]policy.Scope{
			{Kind: policy.ScopeAll}, {Kind: policy.ScopeTask, Name: string(task)}, {Kind: policy.ScopeCapability, Name: storetest.ReadTicket},
		}).Draw(rt, "scope")
		rev, err := s.RaiseFloor(t.Context(), scope)
		h.did(rt, rev, err)
		h.m.floors[scope] = rev
	}
}

// did notes a revision and fails on an error that is none of those that may be.
func (h *history) did(rt *rapid.T, rev int64, err error, may ...error) {
	for _, m := range may {
		if errors.Is(err, m) {
			err = nil
		}
	}
	if err != nil {
		rt.Fatal(err)
	}
	h.last = max(h.last, rev)
}

// on is the change by an event.
func on(s *store.Store, kind policy.EventKind) func(policy.Task) (policy.Task, error) {
	return func(t policy.Task) (policy.Task, error) {
		l, err := policy.Transition(t.Life, policy.Event{Kind: kind}, s.Now())
		t.Life = l
		return t, err
	}
}

func (h *history) pause(t *testing.T, rt *rapid.T, s *store.Store, task policy.TaskID) {
	_, rev, err := s.ChangeTask(t.Context(), task, on(s, policy.EventPause))
	h.did(rt, rev, err, policy.ErrEnded, policy.ErrTransition)
	if err == nil {
		h.m.tasks[task] = policy.Paused
		h.m.floors[policy.Scope{Kind: policy.ScopeTask, Name: string(task)}] = rev
	}
}

func (h *history) resumeAgent(t *testing.T, rt *rapid.T, s *store.Store) {
	rev, err := s.Resume(t.Context(), storetest.Agent)
	h.did(rt, rev, err, store.ErrNotFound)
	h.m.suspended = false
}

func (h *history) createTask(t *testing.T, rt *rapid.T, s *store.Store) {
	task := storetest.NewTask(s.Now())
	storetest.Await(t, s, h.last) // a floor that this replica does not know yet would refuse it
	rev, err := s.CreateTask(t.Context(), task)
	if h.m.suspended {
		if !errors.Is(err, store.ErrSuspended) {
			rt.Fatalf("a task of a suspended agent: %v", err)
		}
		return
	}
	h.did(rt, rev, err)
	h.m.tasks[task.ID] = policy.Active
}

func (h *history) createGrant(t *testing.T, rt *rapid.T, s *store.Store, id policy.TaskID) {
	task := storetest.NewTask(s.Now())
	task.ID = id
	capability := rapid.SampledFrom([]string{storetest.ReadTicket, storetest.EditTicket}).Draw(rt, "capability")
	g := storetest.NewGrant(t, s, task, capability, fmt.Sprintf("OPS-%d", rapid.IntRange(1, 3).Draw(rt, "ticket")))
	seen := s.Index().Revision()
	rev, err := s.CreateGrants(t.Context(), seen, g)
	raised := false
	for _, sc := range policy.ScopesOf(g) {
		raised = raised || h.m.floors[sc] > seen
	}
	switch {
	case h.m.tasks[id] != policy.Active:
		if !errors.Is(err, store.ErrConflict) {
			rt.Fatalf("a grant in an ended task: %v", err)
		}
	case h.m.suspended:
		if !errors.Is(err, store.ErrSuspended) {
			rt.Fatalf("a grant of a suspended agent: %v", err)
		}
	case raised:
		if !errors.Is(err, store.ErrFloor) {
			rt.Fatalf("a grant decided before a floor rose: %v", err)
		}
	default:
		h.did(rt, rev, err)
		h.m.grants[g.ID] = &modelGrant{grant: g, state: policy.Active, made: rev}
	}
}

func (h *history) endGrant(t *testing.T, rt *rapid.T, s *store.Store, id policy.GrantID) {
	g := h.m.grants[id]
	_, rev, err := s.ChangeGrant(t.Context(), g.grant.Task, id, endGrant(s, policy.EndRevoked))
	h.did(rt, rev, err, policy.ErrEnded)
	g.state = policy.Ended
}

func (h *history) dropTask(t *testing.T, rt *rapid.T, s *store.Store, id policy.TaskID) {
	err := s.DropTask(t.Context(), id)
	if state := h.m.tasks[id]; state == policy.Active || state == policy.Paused {
		if !errors.Is(err, store.ErrConflict) {
			rt.Fatalf("an active task was dropped: %v", err)
		}
		return
	}
	h.did(rt, 0, err)
	delete(h.m.tasks, id)
	for gid, g := range h.m.grants {
		if g.grant.Task == id {
			delete(h.m.grants, gid)
		}
	}
	for _, s := range h.stores { // its revision is not told; wait for what it does
		if _, err := s.Index().AwaitTask(t.Context(), id, func(v *policy.TaskView) bool { return v == nil }); err != nil {
			rt.Fatal(err)
		}
	}
}

func (h *history) compare(rt *rapid.T, s *store.Store) {
	now := s.Now()
	for id, g := range h.m.grants {
		v := s.Index().Task(g.grant.Task)
		var found *policy.Held
		for _, held := range v.Held {
			if held.Grant.ID == id {
				found = held
			}
		}
		if found == nil || found.MadeAt != g.made {
			rt.Fatalf("grant %s is %+v", id, found)
		}
		if got := found.Grant.Live(now) && !found.Raised(); got != h.m.active(g) {
			rt.Fatalf("grant %s: active %v, want %v", id, got, h.m.active(g))
		}
	}
	if got := s.Index().Suspended(storetest.Agent) != nil; got != h.m.suspended {
		rt.Fatalf("suspended: %v, want %v", got, h.m.suspended)
	}
	for id, state := range h.m.tasks {
		if v := s.Index().Task(id); v == nil || v.Task.State != state || !v.Task.Until.After(now.Add(time.Minute)) {
			rt.Fatalf("task %s is %+v, want %v", id, v, state)
		}
	}
}

// drawKey draws one of a map's keys, in a stable order; "" of an empty one.
func drawKey[K ~string, V any](rt *rapid.T, label string, m map[K]V) K {
	if len(m) == 0 {
		return ""
	}
	keys := slices.Sorted(maps.Keys(m))
	return keys[rapid.IntRange(0, len(keys)-1).Draw(rt, label)]
}

package xds

import (
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// catalogOf compiles the fixture's set, with what change does to it.
func catalogOf(t *testing.T, change ...func(*v1alpha1.Set)) *policy.Catalog {
	t.Helper()
	set := storetest.Set()
	for _, fn := range change {
		fn(set)
	}
	cat, problems := policy.Compile(set)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return cat
}

// view is a task of the fixture's agent with one active grant, made at 10.
func view(t *testing.T, cat *policy.Catalog) *policy.TaskView {
	t.Helper()
	return &policy.TaskView{
		Task: policy.Task{
			ID: "t_1", Agent: storetest.Agent, Instance: storetest.Instance,
			Life: policy.Life{State: policy.Active}, Credential: policy.NewSecret("credential"),
		},
		Held: []*policy.Held{held(t, cat, 10)},
	}
}

func held(t *testing.T, cat *policy.Catalog, madeAt int64) *policy.Held {
	t.Helper()
	r, err := cat.Resolve(storetest.Agent, storetest.ReadTicket, map[string]string{"ticket": "OPS-1"})
	if err != nil {
		t.Fatal(err)
	}
	return &policy.Held{
		Grant:  policy.Grant{Destination: storetest.Destination, Life: policy.Life{State: policy.Active}},
		MadeAt: madeAt, Floors: []*policy.Floor{new(policy.Floor)}, Resolved: r,
	}
}

func build(t *testing.T, cat *policy.Catalog, views ...*policy.TaskView) Sidecar {
	t.Helper()
	agent, ok := cat.AgentBySidecar(string(storetest.Instance))
	if !ok {
		t.Fatal("no agent")
	}
	return Build(cat, agent, storetest.Instance, views)
}

func TestWhatOpensARoomAndWhatPutsAHostIntoIt(t *testing.T) {
	t.Parallel()
	cat := catalogOf(t)
	for _, c := range []struct {
		name         string
		change       func(*policy.TaskView)
		rooms, hosts int
	}{
		{"an active task with an active grant", func(*policy.TaskView) {}, 1, 1},
		{"an ended task", func(v *policy.TaskView) { v.Task.State = policy.Ended }, 0, 0},
		{"a paused task", func(v *policy.TaskView) { v.Task.State = policy.Paused }, 0, 0},
		{"a task without a state", func(v *policy.TaskView) { v.Task.State = policy.StateNone }, 0, 0},
		{"another instance's task", func(v *policy.TaskView) { v.Task.Instance += "2" }, 0, 0},
		{"another agent's task", func(v *policy.TaskView) { v.Task.Agent = "other" }, 0, 0},
		{"a task without a credential", func(v *policy.TaskView) { v.Task.Credential = policy.Secret{} }, 0, 0},
		{"a task without a grant", func(v *policy.TaskView) { v.Held = nil }, 1, 0},
		{"a pending grant", func(v *policy.TaskView) { v.Held[0].Grant.State = policy.Pending }, 1, 0},
		{"an ended grant", func(v *policy.TaskView) { v.Held[0].Grant.State = policy.Ended }, 1, 0},
		{"a grant under a raised floor", func(v *policy.TaskView) { v.Held[0].Floors[0].Raise(11) }, 1, 0},
		{"a grant made after a floor was raised", func(v *policy.TaskView) { v.Held[0].Floors[0].Raise(10) }, 1, 1},
		{"a grant without floors", func(v *policy.TaskView) { v.Held[0].Floors = nil }, 1, 0},
		{"a grant that the catalog no longer gives", func(v *policy.TaskView) { v.Held[0].Resolved = nil }, 1, 0},
	} {
		v := view(t, cat)
		c.change(v)
		s := build(t, cat, v)
		hosts := 0
		for _, r := range s.Rooms {
			hosts += len(r.Chains)
		}
		if len(s.Rooms) != c.rooms || hosts != c.hosts {
			t.Errorf("%s: %d rooms, %d hosts; want %d, %d", c.name, len(s.Rooms), hosts, c.rooms, c.hosts)
		}
	}
	if s := Build(nil, nil, storetest.Instance, []*policy.TaskView{view(t, cat)}); len(s.Rooms) != 0 {
		t.Error("without a catalog there are rooms")
	}
	if s := Build(cat, nil, storetest.Instance, []*policy.TaskView{view(t, cat)}); len(s.Rooms) != 0 {
		t.Error("without an agent there are rooms")
	}
}

func TestACutIsANewEpoch(t *testing.T) {
	t.Parallel()
	cat := catalogOf(t)
	epoch := func(change func(*policy.TaskView)) int64 {
		v := view(t, cat)
		change(v)
		return build(t, cat, v).Rooms[0].Chains[0].Epoch
	}
	for _, c := range []struct {
		name   string
		change func(*policy.TaskView)
		want   int64
	}{
		{"never cut", func(*policy.TaskView) {}, 0},
		{"the destination's cut key", func(v *policy.TaskView) { v.Cuts = map[string]int64{storetest.Destination: 5} }, 5},
		{"another's cut key", func(v *policy.TaskView) { v.Cuts = map[string]int64{"other": 5} }, 0},
		{"a floor that ended another grant there", func(v *policy.TaskView) {
			ended := held(t, cat, 3)
			ended.Floors[0].Raise(7)
			v.Held = append(v.Held, ended)
		}, 7},
		{"a floor and then a cut key", func(v *policy.TaskView) {
			ended := held(t, cat, 3)
			ended.Floors[0].Raise(7)
			v.Held = append(v.Held, ended)
			v.Cuts = map[string]int64{storetest.Destination: 9}
		}, 9},
		{"a floor from before the grant", func(v *policy.TaskView) { v.Held[0].Floors[0].Raise(10) }, 0},
	} {
		if got := epoch(c.change); got != c.want {
			t.Errorf("%s: epoch %d, want %d", c.name, got, c.want)
		}
	}
}

func TestOfAChainsBytesOnlyItsEpochVaries(t *testing.T) {
	t.Parallel()
	before := catalogOf(t)
	after := catalogOf(t, func(s *v1alpha1.Set) {
		s.Destinations[0].Spec.Addresses = []string{"192.0.2.7"}
		s.Destinations[0].Spec.Headers = []string{"X-Ticket-Version"}
		s.Capabilities[0].Spec.Description = "other words"
	})
	listener := func(s Sidecar) *resource {
		rc := buildRoomConfig(s.Rooms[0])
		return roomListener(rc.model.Task, rc.chains)
	}
	a, b := build(t, before, view(t, before)), build(t, after, view(t, after))
	if listener(a).version != listener(b).version {
		t.Error("a change of the catalog changes the listener, and would cut")
	}
	v := view(t, before)
	v.Cuts = map[string]int64{storetest.Destination: 5}
	if cut := build(t, before, v); listener(a).version == listener(cut).version {
		t.Error("a cut does not change the listener")
	}
	// Two grants for one destination are one chain.
	v = view(t, before)
	v.Held = append(v.Held, held(t, before, 12))
	if two := build(t, before, v); !reflect.DeepEqual(a, two) {
		t.Error("a second grant for the destination changes the model")
	}
}

func TestTwoPortsOfAHostShareAChainAndAreCutTogether(t *testing.T) {
	t.Parallel()
	cat := catalogOf(t, func(s *v1alpha1.Set) {
		d := s.Destinations[0]
		d.Name, d.Spec.Port = "tickets-admin", 8443
		s.Destinations = append(s.Destinations, d)
		c := s.Capabilities[0]
		c.Name, c.Spec.Destination = "admin", "tickets-admin"
		s.Capabilities = append(s.Capabilities, c)
		s.Agents[0].Spec.Capabilities = append(s.Agents[0].Spec.Capabilities, v1alpha1.AgentCapability{Name: "admin"})
	})
	v := view(t, cat)
	r, err := cat.Resolve(storetest.Agent, "admin", map[string]string{"ticket": "OPS-1"})
	if err != nil {
		t.Fatal(err)
	}
	second := held(t, cat, 11)
	second.Resolved, second.Grant.Destination = r, "tickets-admin"
	v.Held = append(v.Held, second)
	room := build(t, cat, v).Rooms[0]
	if len(room.Chains) != 1 || len(room.Chains[0].Upstreams) != 2 {
		t.Fatalf("chains %+v", room.Chains)
	}
	// The second's grant ends: its streams are on the chain that stays.
	second.Grant.State = policy.Ended
	v.Cuts = map[string]int64{"tickets-admin": 20}
	room = build(t, cat, v).Rooms[0]
	if len(room.Chains) != 1 || len(room.Chains[0].Upstreams) != 1 || room.Chains[0].Epoch != 20 {
		t.Fatalf("chains %+v", room.Chains)
	}
}

// state is what the store's index shows of an instance, built to resources.
func state(t *testing.T, s *store.Store) map[string]string {
	t.Helper()
	model, _ := modelOf(s.Index(), storetest.Instance)
	c := builder{roots: "/roots.pem"}.build(model, 0, nil)
	out := make(map[string]string)
	for name, r := range c.clusters {
		out["cluster "+name] = r.version
	}
	for _, rc := range c.rooms {
		l := roomListener(rc.model.Task, rc.chains)
		out["listener "+l.name] = l.version
		for _, r := range rc.routes {
			out["route "+r.name] = r.version
		}
	}
	out["route egress"] = egressRoutes(model.Rooms).version
	return out
}

func TestTheConfigurationIsAFunctionOfTheStore(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	s := storetest.Open(t, storetest.WithDir(dir))
	storetest.Publish(t, s, storetest.Set())
	// One history: grants come and go, a task too.
	task := storetest.Task(t, s)
	gone := storetest.Task(t, s)
	storetest.Grant(t, s, gone, storetest.ReadTicket, "OPS-1")
	first := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	storetest.Grant(t, s, task, storetest.EditTicket, "OPS-2")
	before := state(t, s)
	_, _, err := s.ChangeGrant(t.Context(), task.ID, first.ID, func(g policy.Grant) (policy.Grant, error) {
		l, err := policy.Transition(g.Life, policy.Event{Kind: policy.EventEnd, Reason: policy.EndCompleted}, s.Now())
		g.Life = l
		return g, err
	})
	if err != nil {
		t.Fatal(err)
	}
	_, rev, err := s.ChangeTask(t.Context(), gone.ID, func(task policy.Task) (policy.Task, error) {
		l, err := policy.Transition(task.Life, policy.Event{Kind: policy.EventEnd, Reason: policy.EndCompleted}, s.Now())
		task.Life = l
		return task, err
	})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	lived := state(t, s)
	if reflect.DeepEqual(before, lived) {
		t.Fatal("an ending changed nothing")
	}
	if _, ok := lived["listener "+policy.RoomName(gone.ID)]; ok {
		t.Fatal("an ended task has a room")
	}
	// The other: a process that only ever saw the result.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	again := state(t, storetest.Open(t, storetest.WithDir(dir)))
	if !reflect.DeepEqual(lived, again) {
		t.Fatalf("before the restart %v\nafter it %v", lived, again)
	}
	if want := "listener " + policy.RoomName(task.ID); !slices.Contains(slices.Collect(maps.Keys(again)), want) {
		t.Fatalf("no %s in %v", want, again)
	}
}

// A room leads where a call may ask for its grant, and to nothing more.
func TestARoomLeadsWhereACallMayAsk(t *testing.T) {
	t.Parallel()
	cat := catalogOf(t, func(set *v1alpha1.Set) {
		for i := range set.Capabilities {
			set.Capabilities[i].Spec.OnCall = set.Capabilities[i].Name == storetest.ReadTicket
		}
	})
	v := view(t, cat)
	v.Held = nil
	if s := build(t, cat, v); len(s.Rooms) != 1 || len(s.Rooms[0].Chains) == 0 || s.Rooms[0].Chains[0].Upstreams[0].Destination.Name != storetest.Destination {
		t.Errorf("%+v", s.Rooms)
	}
	v.Task.State = policy.Paused
	if s := build(t, cat, v); len(s.Rooms) != 0 {
		t.Errorf("a paused task has a room: %+v", s.Rooms)
	}
}

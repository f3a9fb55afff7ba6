package xds

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/exeat-dev/exeat/policy"
)

// history drives a session and a sim through random changes, deliveries and
// reconnects, and judges each claim of the session by what the Envoy really has.
type history struct {
	t            *rapid.T
	e            *sim
	models       [][]Room // by revision
	epochs       map[string]int64
	reconnected  bool
	granted      map[string]map[string]bool // task to destinations
	destinations []string
}

func TestNoHistoryMakesItLie(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		h := &history{t: rt, e: newSim(t), models: [][]Room{nil}, epochs: map[string]int64{}, granted: map[string]map[string]bool{},
			destinations: []string{"a", "b", "c"}}
		rt.Repeat(map[string]func(*rapid.T){
			"deliver": func(*rapid.T) {
				if !h.e.toServer() && !h.e.toEnvoy() {
					rt.Skip()
				}
			},
			"deliver down": func(*rapid.T) { h.e.toEnvoy() },
			"deliver up":   func(*rapid.T) { h.e.toServer() },
			"change":       func(rt *rapid.T) { h.change(rt) },
			"reconnect": func(*rapid.T) {
				if rapid.IntRange(0, 9).Draw(rt, "reconnect") == 0 {
					h.reconnected = true
					want := h.e.s.want
					h.e.connect(h.e.s.vault)
					h.e.s.want = want
				}
			},
			"": func(rt *rapid.T) { h.check(rt) },
		})
		h.e.settle()
		h.atRest(rt)
	})
}

// change starts or ends a task, or gives, ends or cuts a grant.
func (h *history) change(rt *rapid.T) {
	task := rapid.SampledFrom([]string{"t_1", "t_2", "t_3"}).Draw(rt, "task")
	d := rapid.SampledFrom(h.destinations).Draw(rt, "destination")
	revision := int64(len(h.models))
	switch rapid.IntRange(0, 5).Draw(rt, "what") {
	case 0, 1, 2:
		if h.granted[task] == nil {
			h.granted[task] = map[string]bool{}
		}
		h.granted[task][d] = true
	case 3: // ended, with its cut key
		if h.granted[task][d] {
			delete(h.granted[task], d)
			h.epochs[task+d] = revision
		}
	case 4: // ended, and another is there
		if h.granted[task][d] {
			h.epochs[task+d] = revision
		}
	case 5:
		delete(h.granted, task)
	}
	var rooms []Room
	for _, task := range slices.Sorted(maps.Keys(h.granted)) {
		var ds []policy.Destination
		for _, d := range slices.Sorted(maps.Keys(h.granted[task])) {
			ds = append(ds, destination(d))
		}
		rm := room(task, ds...)
		for i := range rm.Chains {
			rm.Chains[i].Epoch = h.epochs[task+rm.Chains[i].Upstreams[0].Destination.Name]
		}
		rooms = append(rooms, rm)
	}
	h.models = append(h.models, rooms)
	h.e.want(revision, rooms...)
}

// names of the chains that a model holds.
func names(rooms []Room) map[string]bool {
	out := map[string]bool{}
	for _, r := range rooms {
		for _, c := range buildRoomConfig(r).chains {
			out[c.routeName(r.Task)] = true
		}
	}
	return out
}

func (h *history) check(rt *rapid.T) {
	s := h.e.s
	last := int64(len(h.models) - 1)
	// Cut: whatever is in force was wanted at that revision or after.
	allowed := map[string]bool{}
	for r := s.cut; r <= last; r++ {
		maps.Copy(allowed, names(h.models[r]))
	}
	for room, chains := range h.e.active {
		for _, c := range chains {
			if s.cut > 0 && !allowed[c] {
				rt.Fatalf("cut %d is claimed, and %s of %s is in force", s.cut, c, room)
			}
		}
	}
	// Ready: whatever was wanted then, and since, is in force and led into.
	for name := range names(h.models[s.ready]) {
		always := s.ready > 0
		for r := s.ready; r <= last; r++ {
			always = always && names(h.models[r])[name]
		}
		task, _, _ := parseRouteName(name)
		room := policy.RoomName(task)
		if always && (!slices.Contains(h.e.active[room], name) || !slices.Contains(h.e.leads[routeEgress], room)) {
			rt.Fatalf("ready %d is claimed, and %s is not in force", s.ready, name)
		}
	}
	h.checkLeads(rt)
}

// checkLeads: what leads somewhere, leads to something that is there.
func (h *history) checkLeads(rt *rapid.T) {
	for _, cluster := range h.e.leads[routeEgress] {
		if h.e.clusters[cluster] == "" || !h.reconnected && h.e.active[cluster] == nil {
			rt.Fatalf("egress leads to %s, which is not there", cluster)
		}
	}
	for _, chains := range h.e.active {
		for _, c := range chains {
			for _, cluster := range h.e.leads[c] {
				if cluster != clusterAPI && h.e.clusters[cluster] == "" {
					rt.Fatalf("%s leads to %s, which is not there", c, cluster)
				}
			}
		}
	}
}

// atRest: everything that is wanted is in force, and nothing else.
func (h *history) atRest(rt *rapid.T) {
	last := int64(len(h.models) - 1)
	if last == 0 {
		return
	}
	h.check(rt)
	if h.e.s.ready != last || h.e.s.cut != last {
		rt.Fatalf("at rest: ready %d, cut %d of %d", h.e.s.ready, h.e.s.cut, last)
	}
	got := map[string]bool{}
	for _, chains := range h.e.active {
		for _, c := range chains {
			got[c] = true
		}
	}
	if want := names(h.models[last]); !maps.Equal(got, want) || len(h.e.warming) != 0 {
		rt.Fatalf("at rest: in force %v, want %v, warming %v", got, want, h.e.warming)
	}
	config := builder{}.build(Sidecar{Rooms: h.models[last]}, 0, nil)
	if have := slices.Sorted(maps.Keys(h.e.clusters)); !slices.Equal(have, config.names) {
		rt.Fatalf("at rest: clusters %v, want %v", have, config.names)
	}
	// And the way there left no trace: a session without a past would send the same.
	for name, res := range config.clusters {
		if h.e.clusters[name] != res.version {
			rt.Fatalf("%s has another version", name)
		}
	}
	for _, rc := range config.rooms {
		if l := roomListener(rc.model.Task, rc.chains); h.e.versions[l.name] != l.version {
			rt.Fatalf("%s has another version", l.name)
		}
		for _, table := range rc.routes {
			if h.e.routes[table.name] != table.version {
				rt.Fatalf("%s has another version", table.name)
			}
		}
	}
	if v := egressRoutes(h.models[last]).version; h.e.routes[routeEgress] != v {
		rt.Fatal(fmt.Sprintf("egress has version %q, want %q", h.e.routes[routeEgress], v))
	}
}

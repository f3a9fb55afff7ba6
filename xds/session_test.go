package xds

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/policy"
)

func destination(name string) policy.Destination {
	return policy.Destination{Name: name, Hosts: []string{name + ".test"}, Port: 443, Addresses: []string{"192.0.2.1:443"}}
}

// index is where in a log an entry stands; -1: nowhere.
func index(log []string, entry string) int { return slices.Index(log, entry) }

func inOrder(t *testing.T, log []string, entries ...string) {
	t.Helper()
	last := -1
	for _, e := range entries {
		i := index(log, e)
		if i < 0 || i < last {
			t.Fatalf("%q is missing or too early in\n%s", e, strings.Join(log, "\n"))
		}
		last = i
	}
}

func TestARoomComesAfterItsClustersAndIsLedIntoLast(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	e.want(7, room("t_1", destination("api")))
	for e.s.ready < 7 && (e.toServer() || e.toEnvoy()) {
	}
	if e.s.ready != 7 || e.s.cut != 7 {
		t.Fatalf("ready %d, cut %d", e.s.ready, e.s.cut)
	}
	log := e.took()
	inOrder(t, log, "cluster +up/api/api.test", "listener +room/t_1", "route +room/t_1/api.test/0")
	inOrder(t, log, "cluster +room/t_1", "listener +room/t_1", "secret +leaf/api.test")
	if last := log[len(log)-1]; last != "route +egress" {
		t.Fatalf("the last is %q", last)
	}
	if len(e.active["room/t_1"]) != 3 {
		t.Fatalf("in force: %v", e.active)
	}
}

func TestReadyIsSaidOnlyAfterTheLastAcknowledgement(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	e.settle()
	e.want(7, room("t_1", destination("api")))
	for e.toServer() || e.toEnvoy() {
		if e.s.ready >= 7 && (len(e.active["room/t_1"]) != 3 || len(e.leads[routeEgress]) != 1) {
			t.Fatal("ready before it is in force")
		}
	}
	if e.s.ready != 7 {
		t.Fatal("never ready")
	}
}

func TestTheSameInputPushesNothing(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	e.want(1, room("t_1", destination("api"), destination("b")), room("t_2"))
	e.settle()
	e.took()
	e.want(2, room("t_1", destination("api"), destination("b")), room("t_2"))
	e.settle()
	if log := e.took(); len(log) != 0 {
		t.Fatalf("sent %v", log)
	}
	if e.s.ready != 2 || e.s.cut != 2 {
		t.Fatalf("ready %d, cut %d", e.s.ready, e.s.cut)
	}
}

func TestARoomGoesRouteFirstAndClustersLast(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	e.want(1, room("t_1", destination("api")), room("t_2", destination("api")))
	e.settle()
	e.took()
	e.want(2, room("t_2", destination("api")))
	// The two that cut are on their way at once, in this order.
	if len(e.down) != 2 || e.down[0].GetTypeUrl() != typeURLs[routes] || e.down[1].GetRemovedResources()[0] != "room/t_1" {
		t.Fatalf("sent %v", e.down)
	}
	for e.toServer() || e.toEnvoy() {
		if e.s.cut >= 2 && (e.active["room/t_1"] != nil || slices.ContainsFunc(slices.Collect(keysOf(e.asked[routes])), func(n string) bool {
			return strings.HasPrefix(n, "room/t_1/")
		})) {
			t.Fatal("cut before its streams were closed")
		}
	}
	log := e.took()
	inOrder(t, log, "route +egress", "listener -room/t_1", "cluster -room/t_1")
	if e.clusters["up/api/api.test"] == "" {
		t.Fatal("a cluster that is in use went")
	}
	if e.s.cut != 2 || len(e.s.rooms) != 1 {
		t.Fatalf("cut %d, %d rooms", e.s.cut, len(e.s.rooms))
	}
}

func keysOf[V any](m map[string]V) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

func TestACutDoesNotWaitForWhatIsWarming(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	e.want(1, room("t_1", destination("api"), destination("b")))
	e.settle()
	e.took()
	// c is added; its route table is late.
	e.want(2, room("t_1", destination("api"), destination("b"), destination("c")))
	for len(e.warming) == 0 {
		e.toEnvoy()
	}
	// Meanwhile api's grant ends.
	e.want(3, room("t_1", destination("b"), destination("c")))
	cutting := e.down[len(e.down)-1]
	if got := chainsOf(t, cutting.GetResources()[0]); slices.Contains(got, "room/t_1/c.test/0") || slices.Contains(got, "room/t_1/api.test/0") ||
		!slices.Contains(got, "room/t_1/b.test/0") {
		t.Fatalf("the cut holds %v", got)
	}
	e.settle()
	if e.s.cut != 3 || e.s.ready != 3 || len(e.active["room/t_1"]) != 4 {
		t.Fatalf("cut %d, ready %d, in force %v", e.s.cut, e.s.ready, e.active)
	}
}

func TestARecutChainStaysWithAnotherEpoch(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	rm := room("t_1", destination("api"), destination("b"))
	e.want(1, rm)
	e.settle()
	e.took()
	again := room("t_1", destination("api"), destination("b"))
	again.Chains[0].Epoch = 2
	e.want(2, again)
	e.settle()
	log := e.took()
	inOrder(t, log, "listener +room/t_1", "route +room/t_1/api.test/2")
	if n := len(slices.DeleteFunc(log, func(s string) bool { return s != "listener +room/t_1" })); n != 1 {
		t.Fatalf("%d updates of the listener", n)
	}
	if e.s.cut != 2 || e.s.ready != 2 {
		t.Fatalf("cut %d, ready %d", e.s.cut, e.s.ready)
	}
}

func TestARefusedRoomUpdateLeavesTheRemovalsAlone(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	var told []string
	e.s.refusal = func(k kind, name, detail string) { told = append(told, k.String()+" "+name+": "+detail) }
	e.want(1, room("t_1", destination("api"), destination("b")), room("t_2"))
	e.settle()
	e.took()
	// Envoy refuses any listener with c in it; api is to be cut at the same time,
	// and is recut, so that the refused update is the cutting one.
	e.refuses = func(k kind, name string) string {
		if k == listeners && name == "room/t_1" && slices.ContainsFunc(e.s.rooms["t_1"].chains, func(c chainID) bool { return c == chainID{"api.test", 9} }) {
			return "bad chain, Basic c2VjcmV0"
		}
		return ""
	}
	recut := room("t_1", destination("api"), destination("b"))
	recut.Chains[0].Epoch = 9
	e.want(9, recut, room("t_2"), room("t_3", destination("api")))
	e.settle()
	if slices.Contains(e.active["room/t_1"], "room/t_1/api.test/0") || len(e.active["room/t_1"]) != 3 {
		t.Fatalf("in force: %v", e.active["room/t_1"])
	}
	if len(e.active["room/t_3"]) != 3 {
		t.Fatal("another room was held up")
	}
	if len(told) != 1 || told[0] != "listener room/t_1: bad chain, [secret]" || e.s.rejected() != told[0] {
		t.Fatalf("told %q, shown %q", told, e.s.rejected())
	}
	// api is wanted and not there: never ready; but what was to be cut is.
	if e.s.ready != 1 || e.s.cut != 9 {
		t.Fatalf("ready %d, cut %d", e.s.ready, e.s.cut)
	}
	e.took()
	e.want(10, recut, room("t_2"), room("t_3", destination("api")))
	e.settle()
	if log := e.took(); len(log) != 0 || e.s.rejected() == "" {
		t.Fatalf("sent again: %v; shown %q", log, e.s.rejected())
	}
	e.want(11, room("t_1", destination("b")), room("t_2"), room("t_3", destination("api")))
	e.settle()
	if e.s.ready != 11 {
		t.Fatalf("ready %d once nothing refused is wanted", e.s.ready)
	}
	if e.s.rejected() != "" {
		t.Fatalf("still shown: %q", e.s.rejected())
	}
}

func TestARefusedCutTakesTheRoomAway(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	e.want(1, room("t_1", destination("api"), destination("b")))
	e.settle()
	e.refuses = func(k kind, _ string) string {
		if k == listeners {
			return "no"
		}
		return ""
	}
	e.want(2, room("t_1", destination("b")))
	e.settle()
	if e.active["room/t_1"] != nil || e.s.cut != 2 || e.s.ready != 1 || e.s.rejected() == "" {
		t.Fatalf("in force %v, cut %d, ready %d, shown %q", e.active, e.s.cut, e.s.ready, e.s.rejected())
	}
	if slices.Contains(e.leads[routeEgress], "room/t_1") {
		t.Fatal("egress leads into a room that is not there")
	}
}

func TestARefusedRouteTableOrClusterTakesItsChainAway(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"up/b/b.test", "room/t_1/b.test/0", "leaf/b.test"} {
		e := newSim(t)
		e.refuses = func(_ kind, name string) string {
			if name == bad {
				return "no"
			}
			return ""
		}
		e.want(1, room("t_1", destination("api"), destination("b")))
		e.settle()
		if len(e.active["room/t_1"]) != 3 || len(e.warming) != 0 {
			t.Errorf("%s: in force %v, warming %v", bad, e.active, e.warming)
		}
		if e.s.ready != 0 || e.s.cut != 1 || !strings.Contains(e.s.rejected(), bad) {
			t.Errorf("%s: ready %d, cut %d, shown %q", bad, e.s.ready, e.s.cut, e.s.rejected())
		}
		if !slices.Contains(e.leads[routeEgress], "room/t_1") {
			t.Errorf("%s: the room's other destinations are not reached", bad)
		}
		e.took()
		e.want(2, room("t_1", destination("api"), destination("b")))
		e.settle()
		if log := e.took(); len(log) != 0 {
			t.Errorf("%s: sent again: %v", bad, log)
		}
	}
}

func TestAReconnectSendsOnlyWhatChanged(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	rooms := []Room{room("t_1", destination("api"), destination("b")), room("t_2", destination("api"))}
	e.want(1, rooms...)
	e.settle()

	e.connect(e.s.vault)
	e.want(2, rooms...)
	e.settle()
	if log := e.took(); len(log) != 0 {
		t.Fatalf("sent %v", log)
	}
	if e.s.ready != 2 || e.s.cut != 2 {
		t.Fatalf("ready %d, cut %d", e.s.ready, e.s.cut)
	}

	e.connect(e.s.vault)
	e.want(3, room("t_1", destination("b")))
	for e.toServer() || e.toEnvoy() {
		if e.s.cut >= 3 && (len(e.active["room/t_1"]) != 3 || e.active["room/t_2"] != nil) {
			t.Fatal("cut before it was")
		}
	}
	inOrder(t, e.took(), "route +egress", "listener -room/t_2", "cluster -room/t_2")
	if e.s.ready != 3 || e.s.cut != 3 || len(e.clusters) != 2 {
		t.Fatalf("ready %d, cut %d, clusters %v", e.s.ready, e.s.cut, e.clusters)
	}
}

func TestAFloodOfNamesEndsTheStream(t *testing.T) {
	t.Parallel()
	e := newSim(t)
	e.settle()
	req := &deltaRequest{TypeUrl: typeURLs[routes]}
	for i := range maxNames + 1 {
		req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, strings.Repeat("x", 1+i%7)+string(rune('a'+i%26))+strconv.Itoa(i))
	}
	if err := e.s.receive(req); err == nil {
		t.Fatal("taken")
	}
}

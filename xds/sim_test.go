package xds

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
)

// sim is an Envoy as far as a control plane can tell: it applies one stream in
// order, keeps a listener warming until its route tables and certificates are
// there, and asks for those by name. Tests let it lag and refuse.
type sim struct {
	t       testing.TB
	s       *session
	down    []*discoveryv3.DeltaDiscoveryResponse // on their way to it
	up      []*discoveryv3.DeltaDiscoveryRequest  // on their way back
	log     []string                              // what reached it, such as "listener +room/t_1"
	refuses func(kind, string) string             // why, or ""

	clusters, routes, secrets map[string]string // name to version
	asked                     [kindCount]map[string]bool
	versions                  map[string]string // of listeners
	active, warming           map[string][]string
	leads                     map[string][]string
	turn                      bool
}

func newSim(t testing.TB) *sim {
	ca, err := newAuthority(testInstance, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := &sim{t: t, refuses: func(kind, string) string { return "" },
		clusters: map[string]string{}, routes: map[string]string{}, secrets: map[string]string{}, versions: map[string]string{},
		active: map[string][]string{}, warming: map[string][]string{}, leads: map[string][]string{},
	}
	for k := range e.asked {
		e.asked[k] = map[string]bool{}
	}
	e.connect(newVault(ca, time.Now))
	return e
}

// connect opens a stream: Envoy says type by type what it holds.
func (e *sim) connect(v secretSource) {
	e.down, e.up, e.log = nil, nil, nil
	e.s = newSession(v, func(r *discoveryv3.DeltaDiscoveryResponse) error {
		e.down = append(e.down, proto.Clone(r).(*discoveryv3.DeltaDiscoveryResponse))
		return nil
	})
	e.asked[routes][routeEgress] = true
	for k, held := range map[kind]map[string]string{clusters: e.clusters, listeners: e.versions, routes: e.routes, secrets: e.secrets} {
		if k == secrets && len(e.asked[secrets]) == 0 {
			continue
		}
		e.up = append(e.up, &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: typeURLs[k], ResourceNamesSubscribe: slices.Sorted(maps.Keys(e.asked[k])), InitialResourceVersions: maps.Clone(held),
		})
	}
	slices.SortFunc(e.up, func(a, b *discoveryv3.DeltaDiscoveryRequest) int {
		return strings.Compare(a.GetTypeUrl(), b.GetTypeUrl())
	})
}

// want gives the session a config, as a fleet would.
func (e *sim) want(revision int64, rooms ...Room) {
	e.s.want = builder{}.build(Sidecar{Instance: testInstance, Agent: testAgent, Rooms: rooms}, revision, e.s.want)
	e.advance()
}

func (e *sim) advance() {
	if err := e.s.advance(); err != nil {
		e.t.Fatal(err)
	}
}

// toServer delivers one request; toEnvoy one response.
func (e *sim) toServer() bool {
	if len(e.up) == 0 {
		return false
	}
	req := e.up[0]
	e.up = e.up[1:]
	if err := e.s.receive(req); err != nil {
		e.t.Fatal(err)
	}
	e.advance()
	return true
}

func (e *sim) toEnvoy() bool {
	if len(e.down) == 0 {
		return false
	}
	resp := e.down[0]
	e.down = e.down[1:]
	e.apply(resp)
	return true
}

// settle delivers until nothing moves.
func (e *sim) settle() {
	for e.toServer() || e.toEnvoy() {
	}
}

func (e *sim) apply(resp *discoveryv3.DeltaDiscoveryResponse) {
	k, _ := kindOf(resp.GetTypeUrl())
	ack := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	for _, name := range resp.GetRemovedResources() {
		e.log = append(e.log, k.String()+" -"+name)
		switch k {
		case clusters:
			delete(e.clusters, name)
		case listeners:
			delete(e.active, name)
			delete(e.warming, name)
			delete(e.versions, name)
		}
	}
	for _, res := range resp.GetResources() {
		e.log = append(e.log, k.String()+" +"+res.GetName())
		if why := e.refuses(k, res.GetName()); why != "" {
			e.log[len(e.log)-1] += " refused"
			ack.ErrorDetail = &statuspb.Status{Code: 3, Message: why}
			continue
		}
		e.accept(k, res)
	}
	e.up = append(e.up, ack)
	e.warm()
	e.resubscribe()
}

func (e *sim) accept(k kind, res *discoveryv3.Resource) {
	name := res.GetName()
	switch k {
	case clusters:
		e.clusters[name] = res.GetVersion()
	case listeners:
		e.versions[name] = res.GetVersion()
		e.warming[name] = chainsOf(e.t, res)
	case routes:
		if !e.asked[routes][name] {
			return // no longer wanted; dropped
		}
		e.routes[name] = res.GetVersion()
		table := new(routev3.RouteConfiguration)
		if err := res.GetResource().UnmarshalTo(table); err != nil {
			e.t.Fatal(err)
		}
		e.leads[name] = leadsTo(table)
	case secrets:
		e.secrets[name] = res.GetVersion()
	}
}

// chainsOf lists a listener's route tables.
func chainsOf(t testing.TB, res *discoveryv3.Resource) []string {
	l := new(listenerv3.Listener)
	if err := res.GetResource().UnmarshalTo(l); err != nil {
		t.Fatal(err)
	}
	names := []string{l.GetDefaultFilterChain().GetName()}
	for _, c := range l.GetFilterChains() {
		names = append(names, c.GetName())
	}
	return names
}

// leadsTo lists the clusters of a route table.
func leadsTo(table *routev3.RouteConfiguration) (out []string) {
	for _, vh := range table.GetVirtualHosts() {
		for _, r := range vh.GetRoutes() {
			if c := r.GetRoute().GetCluster(); c != "" {
				out = append(out, c)
			}
		}
		for _, m := range vh.GetMatcher().GetMatcherTree().GetExactMatchMap().GetMap() {
			list := new(routev3.RouteList)
			if m.GetAction().GetTypedConfig().UnmarshalTo(list) == nil {
				out = append(out, list.GetRoutes()[0].GetRoute().GetCluster())
			}
		}
	}
	return out
}

func leafOf(routeName string) string {
	_, c, _ := parseRouteName(routeName)
	return c.leafName()
}

// warm puts listeners into force that wait for nothing more.
func (e *sim) warm() {
	for _, name := range slices.Sorted(maps.Keys(e.warming)) {
		chains := e.warming[name]
		ready := true
		for _, c := range chains {
			ready = ready && e.routes[c] != "" && (leafOf(c) == "" || e.secrets[leafOf(c)] != "")
		}
		if ready {
			e.active[name] = chains
			delete(e.warming, name)
		}
	}
}

// resubscribe asks for what listeners need now, and no longer for the rest.
func (e *sim) resubscribe() {
	need := [kindCount]map[string]bool{routes: {routeEgress: true}, secrets: {}}
	for _, set := range []map[string][]string{e.active, e.warming} {
		for _, chains := range set {
			for _, c := range chains {
				need[routes][c] = true
				if leaf := leafOf(c); leaf != "" {
					need[secrets][leaf] = true
				}
			}
		}
	}
	e.turn = !e.turn
	order := []kind{routes, secrets} // neither comes first by rule
	if e.turn {
		slices.Reverse(order)
	}
	for _, k := range order {
		held := e.routes
		if k == secrets {
			held = e.secrets
		}
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURLs[k]}
		for _, name := range slices.Sorted(maps.Keys(need[k])) {
			if !e.asked[k][name] {
				req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(e.asked[k])) {
			if !need[k][name] {
				req.ResourceNamesUnsubscribe = append(req.ResourceNamesUnsubscribe, name)
				delete(held, name)
			}
		}
		e.asked[k] = need[k]
		if len(req.ResourceNamesSubscribe)+len(req.ResourceNamesUnsubscribe) > 0 {
			e.up = append(e.up, req)
		}
	}
}

// took gives what reached the Envoy since the last call.
func (e *sim) took() []string {
	out := e.log
	e.log = nil
	return out
}

type deltaRequest = discoveryv3.DeltaDiscoveryRequest

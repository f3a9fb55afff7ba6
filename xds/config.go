package xds

import (
	"maps"
	"reflect"
	"slices"

	"github.com/exeat-dev/exeat/policy"
)

// config is all that one instance is to hold at a revision of the store, built.
// It is immutable and shared by the instance's streams.
type config struct {
	revision int64
	rooms    []*roomConfig // by task
	byTask   map[policy.TaskID]*roomConfig
	clusters map[string]*resource
	names    []string // of clusters, sorted

	upstreams map[string]Upstream // what clusters were built from
}

// roomConfig is one room, built but for its listener: which chains that holds is
// for each stream to say, by what its Envoy has in force.
type roomConfig struct {
	model   Room
	chains  []chainID // all of them, sorted
	routes  map[chainID]*resource
	cluster *resource
	// leadsTo lists the clusters that a chain's calls may go to.
	leadsTo map[chainID][]string
}

// builder turns models into configs. It keeps what did not change, so that the
// cost of a change is that of what changed.
type builder struct{ roots string }

// build makes the config of s, taking over from old (which may be nil) what is
// the same. The result depends on s alone.
func (b builder) build(s Sidecar, revision int64, old *config) *config {
	if old == nil {
		old = &config{}
	}
	c := &config{
		revision:  revision,
		byTask:    make(map[policy.TaskID]*roomConfig, len(s.Rooms)),
		clusters:  make(map[string]*resource),
		upstreams: make(map[string]Upstream),
	}
	for _, r := range s.Rooms {
		rc := old.byTask[r.Task]
		if rc == nil || !reflect.DeepEqual(rc.model, r) {
			rc = buildRoomConfig(r)
		}
		c.rooms = append(c.rooms, rc)
		c.byTask[r.Task] = rc
		c.clusters[rc.cluster.name] = rc.cluster
		for _, chain := range r.Chains {
			b.addUpstreams(c, old, chain.Upstreams)
		}
		b.addUpstreams(c, old, r.Plain)
	}
	c.names = slices.Sorted(maps.Keys(c.clusters))
	return c
}

func (b builder) addUpstreams(c, old *config, ups []Upstream) {
	for _, up := range ups {
		name := upstreamName(up.Destination.Name, up.Host)
		if c.clusters[name] != nil {
			continue
		}
		c.upstreams[name] = up
		if before, ok := old.upstreams[name]; ok && reflect.DeepEqual(before, up) {
			c.clusters[name] = old.clusters[name]
			continue
		}
		c.clusters[name] = upstreamCluster(up, b.roots)
	}
}

func buildRoomConfig(r Room) *roomConfig {
	rc := &roomConfig{
		model:   r,
		routes:  make(map[chainID]*resource),
		cluster: roomCluster(r.Task),
		leadsTo: make(map[chainID][]string),
	}
	rc.add(chainID{hostDefault, defaultEpoch}, defaultRoutes(r), nil)
	rc.add(chainID{hostPlain, r.PlainEpoch}, plainRoutes(r), r.Plain)
	for _, c := range r.Chains {
		rc.add(chainID{c.Host, c.Epoch}, chainRoutes(r, c), c.Upstreams)
	}
	slices.SortFunc(rc.chains, compareChains)
	return rc
}

func (rc *roomConfig) add(c chainID, table *resource, ups []Upstream) {
	rc.chains = append(rc.chains, c)
	rc.routes[c] = table
	for _, up := range ups {
		rc.leadsTo[c] = append(rc.leadsTo[c], upstreamName(up.Destination.Name, up.Host))
	}
}

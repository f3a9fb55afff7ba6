package xds

import (
	"cmp"
	"maps"
	"slices"

	"github.com/exeat-dev/exeat/policy"
)

// Sidecar is what one instance is to be configured for, free of Envoy. It is a
// pure function of the store: neither time nor history is in it, so replicas and
// restarts agree on it.
type Sidecar struct {
	Instance policy.Instance
	Agent    string
	Rooms    []Room // by task
}

// Room is what one active task may reach.
type Room struct {
	Task policy.TaskID
	// Agent that the task is of; every Check of the room says so.
	Agent string
	// Authorization is the one Proxy-Authorization that opens the room.
	Authorization policy.Secret
	Chains        []Chain // by host
	// Plain holds what is reached without TLS; PlainEpoch is its last cut.
	Plain      []Upstream // by host, then port
	PlainEpoch int64
}

// Chain is one host that a room intercepts.
type Chain struct {
	Host string
	// Epoch is the store revision of the host's last cut in this task.
	Epoch     int64
	Upstreams []Upstream // by port; one destination each
}

// Upstream is one host of a destination.
type Upstream struct {
	Host        string
	Destination policy.Destination
}

// Build computes the model of an instance from its tasks. agent is the one that
// the catalog pairs with the sidecar; nil gives a sidecar that reaches nothing.
func Build(cat *policy.Catalog, agent *policy.Agent, instance policy.Instance, tasks []*policy.TaskView) Sidecar {
	s := Sidecar{Instance: instance}
	if cat == nil || agent == nil {
		return s
	}
	s.Agent = agent.Name
	for _, v := range tasks {
		// The instance and the agent are checked here too: a record that says
		// otherwise configures nobody.
		t := v.Task
		if t.State != policy.Active || t.Instance != instance || t.Agent != agent.Name || t.Credential.IsZero() {
			continue
		}
		s.Rooms = append(s.Rooms, buildRoom(cat, agent, v))
	}
	slices.SortFunc(s.Rooms, func(a, b Room) int { return cmp.Compare(a.Task, b.Task) })
	return s
}

func buildRoom(cat *policy.Catalog, agent *policy.Agent, v *policy.TaskView) Room {
	r := Room{Task: v.Task.ID, Agent: v.Task.Agent, Authorization: policy.NewSecret(v.Task.ProxyAuthorization())}
	byHost := make(map[string][]Upstream)
	for _, d := range reachable(agent, v) {
		for _, host := range d.Hosts {
			up := Upstream{Host: host, Destination: *d}
			if d.Plain {
				r.Plain = append(r.Plain, up)
			} else {
				byHost[host] = append(byHost[host], up)
			}
		}
	}
	hostEpochs, plainEpoch := epochs(cat, v)
	r.PlainEpoch = plainEpoch
	for host, ups := range byHost {
		slices.SortFunc(ups, compareUpstreams)
		r.Chains = append(r.Chains, Chain{Host: host, Epoch: hostEpochs[host], Upstreams: ups})
	}
	slices.SortFunc(r.Chains, func(a, b Chain) int { return cmp.Compare(a.Host, b.Host) })
	slices.SortFunc(r.Plain, compareUpstreams)
	return r
}

func compareUpstreams(a, b Upstream) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Destination.Port, b.Destination.Port),
		cmp.Compare(a.Destination.Name, b.Destination.Name))
}

// reachable lists the destinations that the room leads to: those granted, and
// those for which the agent's first call may ask. Each call is authorised all
// the same.
func reachable(agent *policy.Agent, v *policy.TaskView) map[string]*policy.Destination {
	out := granted(v)
	for _, d := range agent.OnCallDestinations() {
		out[d.Name] = d
	}
	return out
}

// granted lists the destinations for which the task holds an active grant, each
// once. Whether a grant's time is over is not asked: Envoy's own timer ends its
// streams, each Check judges the clock, and the sweeper's record ends it here.
func granted(v *policy.TaskView) map[string]*policy.Destination {
	out := make(map[string]*policy.Destination)
	for _, h := range v.Held {
		if h.Grant.State != policy.Active || h.Raised() || h.Resolved == nil || h.Resolved.Destination == nil {
			continue
		}
		out[h.Resolved.Destination.Name] = h.Resolved.Destination
	}
	return out
}

// epochs gives the last cut of every host, and of all plain-text hosts together,
// in this task: the cut keys, and the floors that ended a grant there, since one
// raised floor writes no cut keys. A destination counts whether or not it is
// granted now: what was open under its old epoch is what must be cut.
func epochs(cat *policy.Catalog, v *policy.TaskView) (hosts map[string]int64, plain int64) {
	byDestination := maps.Clone(v.Cuts)
	if byDestination == nil {
		byDestination = make(map[string]int64)
	}
	for _, h := range v.Held {
		for _, f := range h.Floors {
			if rev := f.Revision(); rev > h.MadeAt {
				byDestination[h.Grant.Destination] = max(byDestination[h.Grant.Destination], rev)
			}
		}
	}
	hosts = make(map[string]int64)
	for name, rev := range byDestination {
		d, ok := cat.Destination(name)
		if !ok {
			continue
		}
		if d.Plain {
			plain = max(plain, rev)
			continue
		}
		for _, host := range d.Hosts {
			hosts[host] = max(hosts[host], rev)
		}
	}
	return hosts, plain
}

package xds

import (
	"maps"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/policy"
)

// judge says how far the Envoy is: which revision's grants are all in force, and
// which revision's endings are all out of force with their streams closed.
func (s *session) judge() {
	s.forgetNacks()
	if !s.ordered() {
		return
	}
	if s.isReady() {
		s.ready = max(s.ready, s.want.revision)
	}
	if s.isCut() {
		s.cut = max(s.cut, s.want.revision)
	}
}

// isReady: every cluster, listener and route table is the one wanted and
// acknowledged, every chain is warm, and egress, last of all, leads to each room.
func (s *session) isReady() bool {
	for _, name := range s.want.names {
		if !s.has(clusters, s.want.clusters[name]) {
			return false
		}
	}
	for _, rc := range s.want.rooms {
		if !s.roomReady(rc) {
			return false
		}
	}
	return s.egress != nil && s.has(routes, s.egress)
}

func (s *session) roomReady(rc *roomConfig) bool {
	task := rc.model.Task
	r := s.rooms[task]
	if r == nil || r.broken || r.cutting || !r.opened || !slices.Equal(r.chains, rc.chains) {
		return false
	}
	listener := s.types[listeners].held[policy.RoomName(task)]
	if listener == nil || listener.acked == "" || listener.acked != listener.sent {
		return false
	}
	for _, c := range rc.chains {
		if _, asked := r.asked[c]; !asked || !s.has(routes, rc.routes[c]) || !s.warm(task, c) {
			return false
		}
	}
	return true
}

// isCut: no room is left that is not wanted, and none that is wanted has a chain
// that is not. A chain is gone when its route table is no longer asked for: that
// comes after its streams were closed, an acknowledgement before. And nothing is
// on its way that would bring one back for a moment.
func (s *session) isCut() bool {
	for _, f := range s.flights {
		if f.kind == listeners && !s.harmless(f) {
			return false
		}
	}
	for task, r := range s.rooms {
		rc := s.wanted(task, r)
		if rc == nil {
			if s.types[listeners].held[policy.RoomName(task)] != nil || len(r.asked) > 0 {
				return false
			}
			continue
		}
		if r.cutting || len(minus(r.chains, rc.chains)) > 0 || !r.asksOnly(rc.chains) {
			return false
		}
	}
	return true
}

// harmless: what is on its way takes no room away, and brings no chain that is
// not wanted. A room may have gone and come back since it was sent.
func (s *session) harmless(f flight) bool {
	task, ok := taskOfRoom(f.name)
	if len(f.removed) > 0 || !ok {
		return len(f.removed) == 0
	}
	rc := s.wanted(task, s.room(task))
	return rc != nil && len(minus(f.chains, rc.chains)) == 0
}

// dropClusters takes away clusters that nothing leads to any more. A cluster that
// goes before its route would turn our denials into errors of Envoy.
func (s *session) dropClusters() error {
	if !s.ordered() {
		return nil
	}
	settled := s.isCut() && !s.flying(routes) && !s.flying(listeners)
	var gone []string
	for name, h := range s.types[clusters].held {
		if s.want.clusters[name] != nil || h.sent == "" {
			continue
		}
		if task, ok := taskOfRoom(name); ok && s.rooms[task] == nil && !s.egressFlying() || settled {
			gone = append(gone, name)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	slices.Sort(gone)
	return s.respond(flight{kind: clusters, removed: gone}, nil)
}

func (s *session) flying(k kind) bool {
	for _, f := range s.flights {
		if f.kind == k {
			return true
		}
	}
	return false
}

func (s *session) egressFlying() bool {
	h := s.types[routes].held[routeEgress]
	return h != nil && h.sent != h.acked
}

// forgetNacks drops refusals of what is no longer wanted.
func (s *session) forgetNacks() {
	for what := range s.nacks {
		wanted := true
		switch what.kind {
		case clusters:
			wanted = s.want.clusters[what.name] != nil
		case listeners:
			task, _ := taskOfRoom(what.name)
			wanted = s.stillRefused(task)
		case routes:
			task, _, ok := parseRouteName(what.name)
			wanted = !ok || s.want.byTask[task] != nil
		}
		if !wanted {
			delete(s.nacks, what)
			delete(s.refused, what)
		}
	}
}

// stillRefused reports whether something that is wanted of a room was refused as
// part of its listener. What is no longer wanted may be tried again later.
func (s *session) stillRefused(task policy.TaskID) bool {
	rc, r := s.want.byTask[task], s.rooms[task]
	if rc == nil || r == nil {
		return false
	}
	r.refused = keep(r.refused, func(c chainID) bool { return slices.Contains(rc.chains, c) })
	return r.broken || len(r.refused) > 0
}

// rejected is Envoy's words for one thing that it refuses now, or "".
func (s *session) rejected() string {
	keys := slices.SortedFunc(maps.Keys(s.nacks), func(a, b subject) int {
		if a.kind != b.kind {
			return int(a.kind) - int(b.kind)
		}
		return strings.Compare(a.name, b.name)
	})
	if len(keys) == 0 {
		return ""
	}
	return keys[0].kind.String() + " " + keys[0].name + ": " + s.nacks[keys[0]]
}

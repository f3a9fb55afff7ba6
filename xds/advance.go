package xds

import (
	"maps"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/policy"
)

// advance sends all that can be sent now, in the order in which it must arrive:
// clusters before what leads to them; the egress route before the room that it no
// longer leads to; certificates and routes, which what is warming waits for; and
// last the clusters that nothing leads to any more. Each acknowledgement leads
// here again, so nothing waits in it.
func (s *session) advance() error {
	if s.want == nil {
		return nil
	}
	s.survey()
	for _, step := range []func() error{
		s.sendClusters, s.sendEgress, s.sendListeners, s.sendRoutes, s.sendSecrets, s.dropClusters,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	s.judge()
	return nil
}

// ordered reports whether enough is known of the Envoy to send what depends on
// other types: after a reconnect it tells what it holds, type by type.
func (s *session) ordered() bool {
	return s.types[clusters].heard && s.types[listeners].heard && s.types[routes].heard
}

// wanted is the room's config, or nil when it is to go.
func (s *session) wanted(task policy.TaskID, r *roomState) *roomConfig {
	if r.broken {
		return nil
	}
	return s.want.byTask[task]
}

// survey brings the state of each room up to date with what was acknowledged.
func (s *session) survey() {
	if !s.ordered() {
		return
	}
	for name := range s.types[listeners].held {
		if task, ok := taskOfRoom(name); ok {
			s.meet(task)
		}
	}
	for _, rc := range s.want.rooms {
		s.room(rc.model.Task)
	}
	for task, r := range s.rooms {
		listener := s.types[listeners].held[policy.RoomName(task)]
		if s.wanted(task, r) == nil {
			if listener == nil && len(r.asked) == 0 && s.want.byTask[task] == nil {
				delete(s.rooms, task)
			}
			continue
		}
		current := listener != nil && listener.acked != "" && listener.acked == listener.sent
		if r.cutting && current && r.asksOnly(r.chains) {
			r.cutting = false
		}
		if !r.opened && current && s.allWarm(task, r) {
			r.opened = true
		}
	}
}

// meet takes over a room that the Envoy held before this stream: its chains are
// those whose route tables it asks for, and calls may be on their way in.
func (s *session) meet(task policy.TaskID) {
	r := s.room(task)
	h := s.types[listeners].held[policy.RoomName(task)]
	if r.chains != nil || h.nonce != "" {
		return // sent on this stream
	}
	for c := range r.asked {
		r.chains = append(r.chains, c)
	}
	slices.SortFunc(r.chains, compareChains)
	r.accepted = r.chains
	r.met = keep(r.chains, func(c chainID) bool { return s.hasRoutes(task, c) })
	r.opened = true
}

// asksOnly reports whether the Envoy asks for no route table but these: the
// others' streams are closed.
func (r *roomState) asksOnly(chains []chainID) bool {
	for c := range r.asked {
		if !slices.Contains(chains, c) {
			return false
		}
	}
	return true
}

func (s *session) allWarm(task policy.TaskID, r *roomState) bool {
	return !slices.ContainsFunc(r.chains, func(c chainID) bool { return !s.warm(task, c) })
}

// warm reports whether a chain has its route table and its certificate.
func (s *session) warm(task policy.TaskID, c chainID) bool {
	if !s.hasRoutes(task, c) {
		return false
	}
	if c.leafName() == "" {
		return true
	}
	h := s.types[secrets].held[c.leafName()]
	return h != nil && h.acked != ""
}

func (s *session) hasRoutes(task policy.TaskID, c chainID) bool {
	h := s.types[routes].held[c.routeName(task)]
	return h != nil && h.acked != ""
}

func (s *session) sendClusters() error {
	if !s.types[clusters].heard {
		return nil
	}
	for _, name := range s.want.names {
		if res := s.want.clusters[name]; s.due(clusters, res) {
			if err := s.respond(flight{kind: clusters}, res); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendEgress leads into the rooms that are in force; what is to go is left out
// before its listener goes.
func (s *session) sendEgress() error {
	if _, ok := s.types[routes].asked[routeEgress]; !ok || !s.ordered() {
		return nil
	}
	var open []Room
	var of strings.Builder
	for _, rc := range s.want.rooms {
		if r := s.rooms[rc.model.Task]; r != nil && r.opened && !r.broken {
			open = append(open, rc.model)
			of.WriteString(string(rc.model.Task) + "\n")
		}
	}
	if s.egress == nil || s.egressOf != of.String() {
		s.egress, s.egressOf = egressRoutes(open), of.String()
	}
	if !s.due(routes, s.egress) {
		return nil
	}
	return s.respond(flight{kind: routes}, s.egress)
}

// sendListeners takes rooms away, then changes and adds.
func (s *session) sendListeners() error {
	if !s.ordered() {
		return nil
	}
	var gone []string
	for name, h := range s.types[listeners].held {
		task, ok := taskOfRoom(name)
		if h.sent != "" && (!ok || s.wanted(task, s.room(task)) == nil) {
			gone = append(gone, name)
			if ok {
				r := s.room(task)
				r.chains, r.accepted, r.met = nil, nil, nil
				r.built, r.opened, r.cutting = false, false, false
			}
		}
	}
	if len(gone) > 0 {
		slices.Sort(gone)
		if err := s.respond(flight{kind: listeners, removed: gone}, nil); err != nil {
			return err
		}
	}
	for _, rc := range s.want.rooms {
		if err := s.sendRoom(rc); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) sendRoom(rc *roomConfig) error {
	task := rc.model.Task
	r := s.room(task)
	if r.broken {
		return nil
	}
	wants := keep(rc.chains, func(c chainID) bool { return c.base() || !s.chainRefused(rc, r, c) })
	next := nextChains(r.chains, wants, r.cutting, func(c chainID) bool {
		return s.warm(task, c) || slices.Contains(r.met, c)
	})
	if r.built && slices.Equal(next, r.chains) {
		return nil
	}
	res := roomListener(task, next)
	if s.refusedIs(listeners, res) {
		r.broken = true
		return nil // and the next advance, which follows the refusal, takes it away
	}
	r.cutting = r.cutting || len(minus(r.chains, next)) > 0
	r.chains, r.built = next, true
	if !s.due(listeners, res) {
		return nil // the Envoy had it before this stream
	}
	return s.respond(flight{kind: listeners, chains: next}, res)
}

// chainRefused: the Envoy refused the chain, its route table, or a cluster that
// it leads to. Then the chain is not configured, and its host is denied.
func (s *session) chainRefused(rc *roomConfig, r *roomState, c chainID) bool {
	if slices.Contains(r.refused, c) || s.refusedIs(routes, rc.routes[c]) {
		return true
	}
	if _, refused := s.refused[subject{secrets, c.leafName()}]; refused {
		return true
	}
	return slices.ContainsFunc(rc.leadsTo[c], func(name string) bool {
		return s.refusedIs(clusters, s.want.clusters[name])
	})
}

func (s *session) refusedIs(k kind, res *resource) bool {
	return res != nil && s.refused[subject{k, res.name}] == res.version
}

func (s *session) sendRoutes() error {
	for _, rc := range s.want.rooms {
		r := s.rooms[rc.model.Task]
		if r == nil {
			continue
		}
		for _, c := range rc.chains {
			if _, asked := r.asked[c]; !asked || !s.due(routes, rc.routes[c]) {
				continue
			}
			if err := s.respond(flight{kind: routes}, rc.routes[c]); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendSecrets sends leaves that are new, and those of a new window. What has no
// certificate is said to be none.
func (s *session) sendSecrets() error {
	if !s.secretsDue {
		return nil
	}
	s.secretsDue = false
	t := &s.types[secrets]
	for _, name := range slices.Sorted(maps.Keys(t.asked)) {
		version := s.vault.version(name)
		h := t.held[name]
		if h != nil && (h.sent == version && version != "" || version == "" && h.nonce != "") {
			continue
		}
		if s.refused[subject{secrets, name}] == version && version != "" {
			continue
		}
		res, err := s.vault.secret(name)
		if err != nil {
			return err
		}
		f := flight{kind: secrets}
		if res == nil {
			f.removed = []string{name}
		}
		if err := s.respond(f, res); err != nil {
			return err
		}
	}
	return nil
}

package xds

import (
	"fmt"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/policy"
)

// maxNames bounds how many names of one type a stream may ask for.
const maxNames = 50_000

// session is one ADS stream: what its Envoy holds, and what it is to hold. One
// goroutine owns it.
type session struct {
	vault secretSource
	send  func(*discoveryv3.DeltaDiscoveryResponse) error
	// refusal is told of each resource that the Envoy refuses.
	refusal func(k kind, name, detail string)

	want    *config
	types   [kindCount]typeState
	rooms   map[policy.TaskID]*roomState
	flights map[string]flight // by nonce
	nonces  uint64

	secretsDue bool // a secret was asked for, or a window has passed

	egressOf string    // which rooms egress was built for
	egress   *resource // nil before the first

	nacks   map[subject]string // Envoy's words, until it accepts another version
	refused map[subject]string // the version it refused
	version string             // Envoy's

	ready, cut int64 // see store.InstanceAck
	took       bool  // something was sent since the last recorded acceptance
}

// secretSource is a vault. version is "" for a name without a secret.
type secretSource interface {
	version(name string) string
	secret(name string) (*resource, error)
}

// subject is one resource.
type subject struct {
	kind kind
	name string
}

// typeState is what is known of one type.
type typeState struct {
	heard bool // the first request came: what follows is complete
	asked map[string]struct{}
	held  map[string]*holding
}

// holding is one resource in the Envoy. Versions are empty when there is none.
type holding struct {
	sent, acked string
	nonce       string // of the last response about it; older acknowledgements are void
}

// flight is a response that waits for its acknowledgement.
type flight struct {
	kind    kind
	name    string
	version string
	removed []string
	chains  []chainID // of a room's listener
}

// roomState is what is known of one room in the Envoy.
type roomState struct {
	chains   []chainID // of the last listener sent; nil: none
	accepted []chainID // of the last one acknowledged
	refused  []chainID // never to be sent again on this stream
	// built: a listener was computed on this stream, for chains.
	built bool
	// broken: even what must be there was refused. The room is taken away.
	broken bool
	// cutting: a cut was sent, and what it cuts may still be in force.
	cutting bool
	// opened: the egress route leads here, or did before this stream.
	opened bool
	// met are the chains that were in force before this stream. Whether they
	// have their certificates is told last, and must not be waited for to cut.
	met []chainID
	// asked are the chains whose route tables the Envoy asks for: a chain that
	// is neither in force nor warming is not asked for.
	asked map[chainID]struct{}
}

func newSession(v secretSource, send func(*discoveryv3.DeltaDiscoveryResponse) error) *session {
	s := &session{
		vault: v, send: send,
		refusal: func(kind, string, string) {},
		rooms:   make(map[policy.TaskID]*roomState),
		flights: make(map[string]flight),
		nacks:   make(map[subject]string),
		refused: make(map[subject]string),
	}
	for k := range s.types {
		s.types[k] = typeState{asked: make(map[string]struct{}), held: make(map[string]*holding)}
	}
	return s
}

// receive takes one request. It only notes; advance answers.
func (s *session) receive(req *discoveryv3.DeltaDiscoveryRequest) error {
	k, ok := kindOf(req.GetTypeUrl())
	if !ok {
		return nil // a type that is never served; nothing waits for it
	}
	if v := req.GetNode().GetUserAgentBuildVersion().GetVersion(); v != nil {
		s.version = fmt.Sprintf("%d.%d.%d", v.GetMajorNumber(), v.GetMinorNumber(), v.GetPatch())
	}
	s.settle(k, req)
	if err := s.subscribe(k, req); err != nil {
		return err
	}
	if t := &s.types[k]; !t.heard {
		t.heard = true
		for name, version := range req.GetInitialResourceVersions() {
			t.held[name] = &holding{sent: version, acked: version}
		}
		if k == clusters || k == listeners {
			// An Envoy that starts waits for an answer, even an empty one.
			return s.respond(flight{kind: k}, nil)
		}
	}
	return nil
}

// subscribe notes which names are asked for. A name asked for again is sent
// again: the Envoy may have dropped it in between.
func (s *session) subscribe(k kind, req *discoveryv3.DeltaDiscoveryRequest) error {
	t := &s.types[k]
	s.secretsDue = s.secretsDue || k == secrets
	for _, name := range req.GetResourceNamesSubscribe() {
		if k == clusters || k == listeners || name == "*" {
			continue // served whole
		}
		if len(t.asked) >= maxNames {
			return status.Error(codes.ResourceExhausted, "too many resource names")
		}
		t.asked[name] = struct{}{}
		delete(t.held, name)
		if task, chain, ok := parseRouteName(name); ok && k == routes {
			s.room(task).asked[chain] = struct{}{}
		}
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		delete(t.asked, name)
		if k == routes || k == secrets {
			delete(t.held, name)
		}
		if task, chain, ok := parseRouteName(name); ok && k == routes {
			delete(s.room(task).asked, chain)
		}
	}
	return nil
}

func (s *session) room(task policy.TaskID) *roomState {
	r := s.rooms[task]
	if r == nil {
		r = &roomState{asked: make(map[chainID]struct{})}
		s.rooms[task] = r
	}
	return r
}

// settle takes the acknowledgement or refusal that a request carries.
func (s *session) settle(k kind, req *discoveryv3.DeltaDiscoveryRequest) {
	f, ok := s.flights[req.GetResponseNonce()]
	if !ok || f.kind != k {
		return
	}
	delete(s.flights, req.GetResponseNonce())
	for _, name := range f.removed {
		if h := s.types[k].held[name]; h != nil && h.nonce == req.GetResponseNonce() && k != secrets {
			delete(s.types[k].held, name) // a secret that does not exist stays noted while it is asked for
		}
	}
	if f.name == "" {
		return
	}
	h := s.types[k].held[f.name]
	if h == nil || h.nonce != req.GetResponseNonce() {
		return // superseded, or no longer asked for
	}
	if e := req.GetErrorDetail(); e != nil {
		s.refuse(f, h, e.GetMessage())
		return
	}
	h.acked = f.version
	delete(s.refused, subject{k, f.name})
	if task, ok := taskOfRoom(f.name); ok && k == listeners {
		r := s.room(task)
		r.accepted = f.chains
		if len(r.refused) > 0 {
			return // accepted without what was refused: the words stay
		}
	}
	delete(s.nacks, subject{k, f.name})
}

// refuse notes that the Envoy goes on with what it had. Of a room, what the
// refused update would have added is never sent again, so that the next update
// holds the removals alone; when it added nothing that can be left out, the room
// goes: a refused cut must not leave open what it was to close.
func (s *session) refuse(f flight, h *holding, detail string) {
	h.sent = h.acked
	what := subject{f.kind, f.name}
	s.nacks[what] = scrub(detail)
	s.refused[what] = f.version
	s.refusal(f.kind, f.name, s.nacks[what])
	task, ok := taskOfRoom(f.name)
	if !ok || f.kind != listeners {
		return
	}
	r := s.room(task)
	r.chains = r.accepted
	added := keep(minus(minus(f.chains, r.accepted), r.refused), func(c chainID) bool { return !c.base() })
	if len(added) == 0 {
		r.broken = true
		return
	}
	r.refused = append(r.refused, added...)
}

// respond sends one response: one resource, or removals, or nothing.
func (s *session) respond(f flight, res *resource) error {
	s.nonces++
	s.took = s.took || res != nil || len(f.removed) > 0
	nonce := strconv.FormatUint(s.nonces, 10)
	out := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl: typeURLs[f.kind], Nonce: nonce, RemovedResources: f.removed,
	}
	t := &s.types[f.kind]
	if res != nil {
		f.name, f.version = res.name, res.version
		out.Resources = []*discoveryv3.Resource{{Name: res.name, Version: res.version, Resource: res.body}}
		out.SystemVersionInfo = res.version
		h := t.held[res.name]
		if h == nil {
			h = &holding{}
			t.held[res.name] = h
		}
		h.sent, h.nonce = res.version, nonce
	}
	for _, name := range f.removed {
		t.held[name] = &holding{nonce: nonce}
	}
	s.flights[nonce] = f
	return s.send(out)
}

// due reports whether res is to be sent: the Envoy was not sent it, and has not
// refused these very bytes.
func (s *session) due(k kind, res *resource) bool {
	h := s.types[k].held[res.name]
	return (h == nil || h.sent != res.version) && s.refused[subject{k, res.name}] != res.version
}

// has reports whether the Envoy acknowledged res, and was sent nothing since.
func (s *session) has(k kind, res *resource) bool {
	h := s.types[k].held[res.name]
	return h != nil && h.acked == res.version && h.sent == res.version
}

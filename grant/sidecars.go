package grant

import (
	"cmp"
	"slices"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Sidecar is a running sidecar and how far its configuration is.
type Sidecar struct {
	// Agent is empty when the catalog in force gives this sidecar to no one.
	Agent string
	store.InstanceAck
}

// Sidecars lists the connected sidecars, by name: an operator all, people those
// of the agents that they may view, an agent its own.
func (s *Service) Sidecars(c Caller) []Sidecar {
	cat := s.index.Catalog()
	var out []Sidecar
	for _, a := range s.store.Instances() {
		agent := agentOf(cat, a.Instance)
		if !c.May(policy.VerbView, s.ownerOf(agent)) && (c.Instance == "" || a.Instance != c.Instance) {
			continue
		}
		out = append(out, Sidecar{Agent: agent, InstanceAck: a})
	}
	slices.SortFunc(out, func(a, b Sidecar) int { return cmp.Compare(a.Instance, b.Instance) })
	return out
}

func agentOf(cat *policy.Catalog, i policy.Instance) string {
	if cat == nil {
		return ""
	}
	a, ok := cat.AgentBySidecar(string(i))
	if !ok {
		return ""
	}
	return a.Name
}

package store

import (
	"slices"
	"strings"
	"sync/atomic"

	"github.com/exeat-dev/exeat/policy"
	"go.etcd.io/etcd/api/v3/mvccpb"
)

// suspensions are the agents that are or were suspended, by name. A name never
// leaves the table, so that no reader misses it while it changes.
type suspensions = *table[string, *atomic.Pointer[policy.Suspension]]

// applyAgent takes in a change below agent/. It shows at once: like a floor, a
// suspension may only end something.
func (st *state) applyAgent(d *delta, name string, kv *mvccpb.KeyValue, gone bool) {
	at, ok := st.suspended.get(name)
	if !ok {
		at = new(atomic.Pointer[policy.Suspension])
	}
	if gone {
		at.Store(nil)
	} else {
		at.Store(decodeSuspension(name, kv))
	}
	if !ok {
		st.suspended.add(strings.Clone(name), at)
	}
	d.all = true
}

// Suspended gives the agent's suspension, nil while it is not suspended. It
// takes no lock.
func (x *Index) Suspended(agent string) *policy.Suspension {
	if at, ok := x.state.Load().suspended.get(agent); ok {
		return at.Load()
	}
	return nil
}

// Suspensions lists the agents that are suspended, by name.
func (x *Index) Suspensions() []policy.Suspension {
	var list []policy.Suspension
	for _, at := range x.state.Load().suspended.all() {
		if sus := at.Load(); sus != nil {
			list = append(list, *sus)
		}
	}
	slices.SortFunc(list, func(a, b policy.Suspension) int { return strings.Compare(a.Agent, b.Agent) })
	return list
}

package store

import (
	"context"

	"github.com/exeat-dev/exeat/policy"
)

// JoinReplica makes this process a live replica of role ("authz"): under a
// lease it acknowledges each revision once applied with no older check still
// running. Close leaves.
func (s *Store) JoinReplica(ctx context.Context, role string) (leave func(), err error) {
	panic("contract")
}

// AwaitReplicas returns once every live replica of role acknowledged rev; with no live replica it waits.
func (s *Store) AwaitReplicas(ctx context.Context, role string, rev int64) error { panic("contract") }

// InstanceAck says how far one running sidecar's configuration is.
type InstanceAck struct {
	Instance policy.Instance
	// Ready: everything granted at or before this revision is in force.
	Ready int64
	// Cut: everything ended at or before this revision is out of force and its streams are closed.
	Cut int64
	// Rejected is Envoy's words for the configuration that it refused; empty when none is.
	Rejected string
	Version  string // Envoy's
}

// AckInstance records (coalesced, under this process's lease) an instance's state; connected=false removes it.
func (s *Store) AckInstance(a InstanceAck)      { panic("contract") }
func (s *Store) DropInstance(i policy.Instance) { panic("contract") }
func (s *Store) Instances() []InstanceAck       { panic("contract") }

// AwaitInstance returns once cond holds of the instance's state (ok=false: not connected).
func (s *Store) AwaitInstance(ctx context.Context, i policy.Instance, cond func(a InstanceAck, ok bool) bool) (InstanceAck, error) {
	panic("contract")
}

package xds

import (
	"context"
	"log/slog"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/policy"
)

// maxOnDemand bounds how many certificates one sidecar holds for hosts that are
// not granted. Past it a handshake for a new name fails: still a denial.
const maxOnDemand = 1024

// vaults are the vaults of the instances that have a stream open, one each.
type vaults struct {
	keeper *keeper
	log    *slog.Logger

	mu   sync.Mutex
	open map[policy.Instance]*openVault
}

type openVault struct {
	ready chan struct{} // closed when vault or err is set
	vault *vault
	err   error
	refs  int // the lock's
}

// hold gives the instance's vault until release is called.
func (vs *vaults) hold(ctx context.Context, instance policy.Instance) (v *vault, release func(), err error) {
	vs.mu.Lock()
	o := vs.open[instance]
	first := o == nil || o.vault != nil && o.vault.due()
	if first {
		o = &openVault{ready: make(chan struct{})}
		vs.open[instance] = o
	}
	o.refs++
	vs.mu.Unlock()
	release = sync.OnceFunc(func() { vs.release(instance, o) })
	if first {
		vs.load(ctx, instance, o)
	}
	select {
	case <-o.ready:
	case <-ctx.Done():
		release()
		return nil, nil, status.FromContextError(ctx.Err()).Err()
	}
	if o.err != nil {
		release()
		return nil, nil, status.Error(codes.Unavailable, "interception material is not available")
	}
	return o.vault, release, nil
}

func (vs *vaults) load(ctx context.Context, instance policy.Instance, o *openVault) {
	ca, err := vs.keeper.authority(ctx, instance)
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if err != nil {
		o.err = err
		vs.log.ErrorContext(ctx, "interception CA", "instance", instance, "error", err)
		if vs.open[instance] == o {
			delete(vs.open, instance) // the next stream tries again
		}
	} else {
		o.vault = newVault(ca, vs.keeper.now)
	}
	close(o.ready)
}

func (vs *vaults) release(instance policy.Instance, o *openVault) {
	vs.mu.Lock()
	defer vs.mu.Unlock()
	if o.refs--; o.refs == 0 && vs.open[instance] == o {
		delete(vs.open, instance)
	}
}

// onDemand gives one stream's secrets by server name, within the instance's bound.
type onDemand struct {
	*vault
	names map[string]bool // whether it is within the bound
}

func newOnDemand(v *vault) *onDemand { return &onDemand{vault: v, names: make(map[string]bool)} }

func (o *onDemand) version(name string) string {
	if name == SecretCA {
		return o.vault.version(name)
	}
	within, known := o.names[name]
	if !known {
		within = o.held.Add(1) <= maxOnDemand
		o.names[name] = within
	}
	if !within {
		return ""
	}
	return o.vault.version(name)
}

// close gives back what the stream held.
func (o *onDemand) close() { o.held.Add(-int64(len(o.names))) }

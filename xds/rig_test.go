package xds

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

const (
	testInstance = policy.Instance("spiffe://example.org/sidecar/triage/1")
	testAgent    = "triage"
)

// rig is a Server over models that a test sets, in place of a store's.
type rig struct {
	t      *testing.T
	server *Server
	acks   *acks
	addr   string // of the gRPC server, without TLS
	grpc   *grpc.Server
	authz  *authz

	mu       sync.Mutex
	models   map[policy.Instance]Sidecar
	revision int64
}

// newRig serves on a port that the system gives; without TLS, a caller's
// identity is what its "peer" metadata says, or that of testInstance.
func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, acks: newAcks(), models: make(map[policy.Instance]Sidecar), authz: newAuthz()}
	s, err := newServer(Config{PeerID: peerOfMetadata, SystemRoots: "/nonexistent.pem", Recorder: r.acks}, newMemoryBucket(), r.acks)
	if err != nil {
		t.Fatal(err)
	}
	s.registered = func(i policy.Instance) (string, error) {
		if i == "spiffe://example.org/stranger" {
			return "", status.Error(codes.PermissionDenied, "not the identity of a sidecar in the catalog")
		}
		return testAgent, nil
	}
	s.fleet.model = r.model
	r.server = s
	r.listen("127.0.0.1:0")
	return r
}

func (r *rig) listen(addr string) {
	r.t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		r.t.Fatal(err)
	}
	g := grpc.NewServer()
	r.server.Register(g)
	authv3.RegisterAuthorizationServer(g, r.authz)
	alsv3.RegisterAccessLogServiceServer(g, r.authz)
	go g.Serve(l)
	r.t.Cleanup(g.Stop)
	r.addr, r.grpc = l.Addr().String(), g
}

func peerOfMetadata(ctx context.Context) (identity.ID, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("peer"); len(v) > 0 {
		if v[0] == "" {
			return identity.ID{}, identity.ErrNoPeer
		}
		return spiffeid.FromString(v[0])
	}
	return spiffeid.FromString(string(testInstance))
}

func (r *rig) model(i policy.Instance) (Sidecar, int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.models[i], r.revision
}

// set changes what testInstance is to hold, as a change of the store would.
func (r *rig) set(rooms ...Room) (revision int64) {
	return r.setFor(testInstance, rooms...)
}

func (r *rig) setFor(i policy.Instance, rooms ...Room) (revision int64) {
	r.mu.Lock()
	r.revision++
	revision = r.revision
	r.models[i] = Sidecar{Instance: i, Agent: testAgent, Rooms: rooms}
	r.mu.Unlock()
	r.server.fleet.apply(store.Batch{Revision: revision, Instances: map[policy.Instance]struct{}{i: {}}})
	return revision
}

func (r *rig) awaitReady(revision int64) {
	r.t.Helper()
	r.acks.await(r.t, testInstance, func(a store.InstanceAck, ok bool) bool { return ok && a.Ready >= revision })
}

func (r *rig) awaitCut(revision int64) {
	r.t.Helper()
	r.acks.await(r.t, testInstance, func(a store.InstanceAck, ok bool) bool { return ok && a.Cut >= revision })
}

// acks is the store's side of acknowledgements, and the record.
type acks struct {
	mu     sync.Mutex
	state  map[policy.Instance]store.InstanceAck
	events []Event
	change chan struct{}
}

func newAcks() *acks {
	return &acks{state: make(map[policy.Instance]store.InstanceAck), change: make(chan struct{})}
}

func (a *acks) AckInstance(ack store.InstanceAck) {
	a.changed(func() { a.state[ack.Instance] = ack })
}

func (a *acks) DropInstance(i policy.Instance) { a.changed(func() { delete(a.state, i) }) }

func (a *acks) SidecarConfig(_ context.Context, e Event) {
	a.changed(func() { a.events = append(a.events, e) })
}

func (a *acks) changed(fn func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	fn()
	close(a.change)
	a.change = make(chan struct{})
}

func (a *acks) await(t *testing.T, i policy.Instance, cond func(store.InstanceAck, bool) bool) store.InstanceAck {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		a.mu.Lock()
		ack, ok := a.state[i]
		change := a.change
		a.mu.Unlock()
		if cond(ack, ok) {
			return ack
		}
		select {
		case <-change:
		case <-deadline:
			t.Fatalf("instance is at %+v (connected %v)", ack, ok)
		}
	}
}

// memoryBucket is a bucket of the store.
type memoryBucket struct {
	mu      sync.Mutex
	rev     int64
	entries map[string]store.Entry
}

func newMemoryBucket() *memoryBucket { return &memoryBucket{entries: make(map[string]store.Entry)} }

func (b *memoryBucket) Get(_ context.Context, key string) (store.Entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, ok := b.entries[key]
	if !ok {
		return e, store.ErrNotFound
	}
	return e, nil
}

func (b *memoryBucket) Swap(_ context.Context, key string, old int64, value []byte) (int64, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries[key].Revision != old {
		return 0, store.ErrConflict
	}
	b.rev++
	b.entries[key] = store.Entry{Key: key, Value: value, Revision: b.rev}
	return b.rev, nil
}

func (b *memoryBucket) List(context.Context, string) (out []store.Entry, _ error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.entries {
		out = append(out, e)
	}
	return out, nil
}

func (b *memoryBucket) Delete(_ context.Context, key string, old int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entries[key].Revision != old {
		return store.ErrConflict
	}
	delete(b.entries, key)
	return nil
}

var errGone = errors.New("gone")

// newRigLike is a new process of the control plane: another Server, at the same
// address, over the same store.
func newRigLike(old *rig) *rig {
	old.t.Helper()
	r := &rig{t: old.t, acks: newAcks(), authz: old.authz, models: old.models, revision: old.revision}
	s, err := newServer(Config{PeerID: peerOfMetadata, SystemRoots: "/nonexistent.pem", Recorder: r.acks},
		old.server.vaults.keeper.bucket, r.acks)
	if err != nil {
		r.t.Fatal(err)
	}
	s.registered, s.fleet.model, r.server = old.server.registered, r.model, s
	r.listen(old.addr)
	return r
}

// accepted counts the pushes that an Envoy accepted.
func (a *acks) accepted() (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.events {
		if e.Accepted {
			n++
		}
	}
	return n
}

package xds

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Config of a Server.
type Config struct {
	Store *store.Store
	// Key seals the interception CAs; role xds alone holds it.
	Key [32]byte
	// SystemRoots is the file, on the sidecars' machines, of the roots to verify
	// upstreams by that name no CA. Empty: the first of the usual places that
	// exists on this machine.
	SystemRoots string
	Registry    prometheus.Registerer // nil: none
	Recorder    Recorder              // nil: none
	Log         *slog.Logger          // nil: none
	Wall        func() time.Time      // nil: time.Now
	// PeerID says who calls; nil: identity.PeerID, which the certificate decides.
	PeerID func(context.Context) (identity.ID, error)
}

// Recorder takes what sidecars did with their configuration onto the record.
type Recorder interface {
	SidecarConfig(ctx context.Context, e Event)
}

// Event is one configuration accepted or rejected by one instance's Envoy.
type Event struct {
	Time     time.Time
	Instance policy.Instance
	Agent    string
	Accepted bool
	Revision int64  // of the store, that the configuration was computed at
	Resource string // which was rejected: its type and name
	Detail   string // Envoy's words, without secrets
}

// Server configures sidecars: delta ADS, and SDS for interception material.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	recorder Recorder
	metrics  *metrics
	log      *slog.Logger
	wall     func() time.Time
	peerID   func(context.Context) (identity.ID, error)
	// registered names the agent whose sidecar has this identity.
	registered func(policy.Instance) (agent string, err error)
	// orphaned reports whether this process has not followed the store for so
	// long that its sidecars are better served by another.
	orphaned func() bool
	// elect runs fn while this process holds the named election.
	elect  func(ctx context.Context, name string, fn func(context.Context))
	fleet  *fleet
	vaults *vaults
}

// acknowledger is what Server tells the store about instances.
type acknowledger interface {
	AckInstance(store.InstanceAck)
	DropInstance(policy.Instance)
}

// New makes a Server. Run must run for it to follow the store.
func New(cfg Config) (*Server, error) {
	if cfg.Store == nil {
		return nil, errors.New("xds: no store")
	}
	index := cfg.Store.Index()
	s, err := newServer(cfg, cfg.Store.Bucket(BucketInterception), cfg.Store)
	if err != nil {
		return nil, err
	}
	s.registered = func(instance policy.Instance) (string, error) { return registered(index, instance) }
	s.elect = cfg.Store.Lead
	s.orphaned = func() bool { return index.Age() > orphanedAfter }
	s.fleet.index = index
	s.fleet.model = func(instance policy.Instance) (Sidecar, int64) { return modelOf(index, instance) }
	return s, nil
}

// newServer makes a Server that still has to be told who is registered and what
// each instance may reach.
func newServer(cfg Config, b bucket, acks acknowledger) (*Server, error) {
	s := &Server{orphaned: func() bool { return false }, recorder: cfg.Recorder, log: cfg.Log, wall: cfg.Wall, peerID: cfg.PeerID}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.wall == nil {
		s.wall = time.Now
	}
	if s.peerID == nil {
		s.peerID = identity.PeerID
	}
	k, err := newKeeper(b, cfg.Key, s.wall)
	if err != nil {
		return nil, err
	}
	s.vaults = &vaults{keeper: k, log: s.log, open: make(map[policy.Instance]*openVault)}
	if s.metrics, err = newMetrics(cfg.Registry); err != nil {
		return nil, err
	}
	build := builder{roots: cfg.SystemRoots}
	if build.roots == "" {
		build.roots = findRoots()
	}
	s.fleet = &fleet{server: s, acks: acks, builder: build, instances: make(map[policy.Instance]*instance)}
	return s, nil
}

// orphanedAfter is well past any staleness bound: a sidecar that is sent away
// keeps what it has, but only a server that follows the store can cut it.
const orphanedAfter = 5 * time.Second

// errOrphaned sends a sidecar to another server, if there is one.
var errOrphaned = status.Error(codes.Unavailable, "the store is not followed; another server may be able to")

// registered finds the agent that the catalog in force pairs with the sidecar.
func registered(index *store.Index, instance policy.Instance) (string, error) {
	cat := index.Catalog()
	if cat == nil {
		return "", status.Error(codes.Unavailable, "no catalog yet")
	}
	agent, ok := cat.AgentBySidecar(string(instance))
	if !ok {
		return "", status.Error(codes.PermissionDenied, "not the identity of a sidecar in the catalog")
	}
	return agent.Name, nil
}

// modelOf computes an instance's model, and the revision that it holds at least:
// that is read first. An identity that is no sidecar's any more gets an empty
// model, which cuts what it had.
func modelOf(index *store.Index, instance policy.Instance) (Sidecar, int64) {
	revision := index.Revision()
	cat := index.Catalog()
	var agent *policy.Agent
	if cat != nil {
		agent, _ = cat.AgentBySidecar(string(instance))
	}
	return Build(cat, agent, instance, index.Instance(instance)), revision
}

// Register adds the services to a gRPC server that verifies clients by mTLS.
func (s *Server) Register(g *grpc.Server) {
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	secretv3.RegisterSecretDiscoveryServiceServer(g, &secretServer{Server: s})
}

// Run follows the store until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	var swept sync.WaitGroup
	defer swept.Wait()
	swept.Go(func() { s.elect(ctx, "interception", s.sweepDaily) })
	return s.fleet.run(ctx)
}

// sweepDaily removes interception CAs that nobody uses, until ctx ends.
func (s *Server) sweepDaily(ctx context.Context) {
	for tick := time.NewTicker(24 * time.Hour); ; {
		if err := s.vaults.keeper.sweep(ctx); err != nil && ctx.Err() == nil {
			s.log.WarnContext(ctx, "sweep of interception CAs", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return
		}
	}
}

// findRoots gives where the system's roots are.
func findRoots() string {
	places := []string{
		"/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Arch, Gentoo
		"/etc/pki/tls/certs/ca-bundle.crt",   // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",             // SUSE
		"/etc/ssl/cert.pem",                  // Alpine
	}
	for _, p := range places {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return places[0]
}

// caller is the instance at the other end, by its certificate alone: what an
// Envoy says of itself (its node) is not asked.
func (s *Server) caller(ctx context.Context) (policy.Instance, string, error) {
	id, err := s.peerID(ctx)
	if err != nil {
		return "", "", status.Error(codes.Unauthenticated, "no verified SPIFFE ID")
	}
	if s.orphaned() {
		return "", "", errOrphaned
	}
	instance := policy.Instance(id.String())
	agent, err := s.registered(instance)
	if err != nil {
		s.log.WarnContext(ctx, "sidecar refused", "peer", id.String(), "reason", status.Code(err).String())
		return "", "", err
	}
	return instance, agent, nil
}

package xds

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

// plane is the real server over the real store, by mTLS.
type plane struct {
	t        *testing.T
	store    *store.Store
	server   *Server
	registry *prometheus.Registry
	events   *acks
	identity *identity.Authority
	addr     string
}

var serverID = spiffeid.RequireFromString("spiffe://example.org/exeat/grpc")

func newPlane(t *testing.T) *plane {
	t.Helper()
	authority, err := identity.OpenAuthority(identity.AuthorityConfig{Dir: t.TempDir() + "/identity", TrustDomain: "example.org"})
	if err != nil {
		t.Fatal(err)
	}
	p := &plane{t: t, store: storetest.Open(t), registry: prometheus.NewRegistry(), events: newAcks(), identity: authority}
	storetest.Publish(t, p.store, storetest.Set())
	if p.server, err = New(Config{Store: p.store, Registry: p.registry, Recorder: p.events}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.ServerTLS(authority.Source(serverID, nil, nil), false))))
	p.server.Register(g)
	go g.Serve(l)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- p.server.Run(ctx) }()
	t.Cleanup(func() {
		g.Stop()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return p
}

// dial connects as the holder of an SVID.
func (p *plane) dial(id string) *grpc.ClientConn {
	p.t.Helper()
	src := p.identity.Source(spiffeid.RequireFromString(id), nil, nil)
	conn, err := grpc.NewClient(p.addr, grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(src, serverID))))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

// ads is one delta ADS stream of a test's.
type ads struct {
	t *testing.T
	discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
}

func (p *plane) ads(id string) ads {
	p.t.Helper()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(p.dial(id)).DeltaAggregatedResources(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return ads{p.t, s}
}

// ask sends the first request of a type; the node says something else on purpose.
func (a ads) ask(k kind, names ...string) {
	a.t.Helper()
	err := a.Send(&deltaRequest{
		TypeUrl: typeURLs[k], ResourceNamesSubscribe: names, Node: &corev3.Node{Id: "spiffe://example.org/sidecar/triage/two"},
	})
	if err != nil {
		a.t.Fatal(err)
	}
}

// await reads, acknowledging all, until a resource of that name comes.
func (a ads) await(k kind, name string) *discoveryv3.Resource {
	a.t.Helper()
	for {
		resp, err := a.Recv()
		if err != nil {
			a.t.Fatalf("waiting for %s %s: %v", k, name, err)
		}
		a.reply(resp, "")
		for _, r := range resp.GetResources() {
			if resp.GetTypeUrl() == typeURLs[k] && r.GetName() == name {
				return r
			}
		}
	}
}

func (a ads) reply(resp *discoveryv3.DeltaDiscoveryResponse, why string) {
	a.t.Helper()
	req := &deltaRequest{TypeUrl: resp.GetTypeUrl(), ResponseNonce: resp.GetNonce()}
	if why != "" {
		req.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: why}
	}
	if err := a.Send(req); err != nil {
		a.t.Fatal(err)
	}
}

// fails reads until the stream ends, and gives how.
func (a ads) fails() codes.Code {
	for {
		if _, err := a.Recv(); err != nil {
			return status.Code(err)
		}
	}
}

func TestOnlyARegisteredSidecarIsServed(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	for _, id := range []string{
		"spiffe://example.org/agent/triage", "spiffe://example.org/sidecar/other/one", "spiffe://example.org/sidecar/triage",
		"spiffe://example.org/exeat/grpc",
	} {
		a := p.ads(id)
		a.ask(clusters)
		if code := a.fails(); code != codes.PermissionDenied {
			t.Errorf("%s: ADS: %v", id, code)
		}
		conn := p.dial(id)
		delta, err := secretv3.NewSecretDiscoveryServiceClient(conn).DeltaSecrets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := delta.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: DeltaSecrets: %v", id, err)
		}
		sotw, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := sotw.Recv(); status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: StreamSecrets: %v", id, err)
		}
	}
	if len(p.store.Instances()) != 0 {
		t.Errorf("instances: %v", p.store.Instances())
	}
}

func TestAStreamHoldsItsOwnInstancesResourcesOnly(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	task := storetest.Task(t, p.store) // of instance one
	storetest.Grant(t, p.store, task, storetest.ReadTicket, "OPS-1")
	room := policy.RoomName(task.ID)

	own := p.ads(string(storetest.Instance))
	own.ask(clusters)
	own.ask(listeners)
	own.ask(routes, routeEgress)
	own.await(listeners, room)

	// The other asks for all of it by name, and gets what is its own: nothing.
	other := p.ads("spiffe://example.org/sidecar/triage/two")
	other.ask(clusters, room, "*")
	other.ask(listeners, room, "*")
	other.ask(routes, routeEgress, room+"/-/0", room+"/"+storetest.Host+"/0")
	for range 3 { // two empty answers, and an egress without a room
		resp, err := other.Recv()
		if err != nil {
			t.Fatal(err)
		}
		other.reply(resp, "")
		for _, r := range resp.GetResources() {
			if r.GetName() != routeEgress || strings.Contains(string(r.GetResource().GetValue()), string(task.ID)) {
				t.Errorf("another instance got %s", r.GetName())
			}
		}
	}
	// Both are connected, under the names in their certificates.
	_, err := p.store.AwaitInstance(t.Context(), "spiffe://example.org/sidecar/triage/two", func(_ store.InstanceAck, ok bool) bool { return ok })
	if err != nil {
		t.Fatal(err)
	}
	if n := valueOf(t, p.server.metrics.connected); n != 2 {
		t.Errorf("%v connected", n)
	}
}

func TestWhatAnEnvoyRefusesIsKeptShownCountedAndRecorded(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	task := storetest.Task(t, p.store)
	storetest.Grant(t, p.store, task, storetest.ReadTicket, "OPS-1")
	a := p.ads(string(storetest.Instance))
	a.ask(clusters)
	bad := upstreamName(storetest.Destination, storetest.Host)
	for {
		resp, err := a.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(resp.GetResources()) == 1 && resp.GetResources()[0].GetName() == bad {
			a.reply(resp, "no such file, Basic dDpz")
			break
		}
		a.reply(resp, "")
	}
	ack, err := p.store.AwaitInstance(t.Context(), storetest.Instance, func(a store.InstanceAck, ok bool) bool { return ok && a.Rejected != "" })
	if err != nil {
		t.Fatal(err)
	}
	if want := "cluster " + bad + ": no such file, [secret]"; ack.Rejected != want {
		t.Errorf("shown: %q", ack.Rejected)
	}
	if n := valueOf(t, p.server.metrics.rejections.WithLabelValues("cluster")); n != 1 {
		t.Errorf("counted %v", n)
	}
	if n := valueOf(t, p.server.metrics.rejecting); n != 1 {
		t.Errorf("%v instances refuse something", n)
	}
	p.events.await(t, "", func(store.InstanceAck, bool) bool { return len(p.events.events) == 1 })
	if e := p.events.events[0]; e.Accepted || e.Instance != storetest.Instance || e.Agent != storetest.Agent || e.Resource != "cluster "+bad {
		t.Errorf("recorded %+v", e)
	}
}

func TestAnInstanceIsAsFarAsItsLastStreamAndGoesWithIt(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	sim := func(a ads) {
		a.ask(clusters)
		a.ask(listeners)
		a.ask(routes, routeEgress)
		a.await(routes, routeEgress)
	}
	connected := func(cond func(store.InstanceAck, bool) bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		if _, err := p.store.AwaitInstance(ctx, storetest.Instance, cond); err != nil {
			t.Fatalf("%v: %v", err, p.store.Instances())
		}
	}
	first := p.ads(string(storetest.Instance))
	sim(first)
	connected(func(a store.InstanceAck, ok bool) bool { return ok && a.Ready > 0 && a.Cut > 0 })
	second := p.ads(string(storetest.Instance))
	second.ask(clusters)
	connected(func(a store.InstanceAck, ok bool) bool { return ok && a.Ready == 0 && a.Cut == 0 })
	first.CloseSend()
	sim(second)
	connected(func(a store.InstanceAck, ok bool) bool { return ok && a.Ready > 0 })
	second.CloseSend()
	connected(func(_ store.InstanceAck, ok bool) bool { return !ok })
}

func TestTheInterceptionCAAndOnDemandLeaves(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	client := secretv3.NewSecretDiscoveryServiceClient(p.dial(string(storetest.Instance)))
	sotw, err := client.StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sotw.Send(&discoveryv3.DiscoveryRequest{ResourceNames: []string{SecretCA}})
	got, err := sotw.Recv()
	if err != nil {
		t.Fatal(err)
	}
	ca := new(tlsv3.Secret)
	if err := got.GetResources()[0].UnmarshalTo(ca); err != nil {
		t.Fatal(err)
	}
	roots := poolOf(t, ca.GetValidationContext().GetTrustedCa().GetInlineBytes())

	delta, err := client.DeltaSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	delta.Send(&deltaRequest{ResourceNamesSubscribe: []string{"API.test.", SecretCA, "no dns name", "127.0.0.1", ""}})
	answers := map[string]*tlsv3.Secret{}
	for len(answers) < 5 {
		resp, err := delta.Recv()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range resp.GetRemovedResources() {
			answers[name] = nil
		}
		for _, r := range resp.GetResources() {
			s := new(tlsv3.Secret)
			if err := r.GetResource().UnmarshalTo(s); err != nil {
				t.Fatal(err)
			}
			answers[r.GetName()] = s
		}
	}
	for _, name := range []string{"no dns name", "127.0.0.1", ""} {
		if answers[name] != nil {
			t.Errorf("%q got a certificate", name)
		}
	}
	verify(t, roots, answers["API.test."].GetTlsCertificate(), "api.test", p.server.wall())
	if answers[SecretCA].GetValidationContext() == nil {
		t.Error("no CA by delta")
	}

	// Another instance of the same agent has a CA of its own.
	two, err := secretv3.NewSecretDiscoveryServiceClient(p.dial("spiffe://example.org/sidecar/triage/two")).StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	two.Send(&discoveryv3.DiscoveryRequest{ResourceNames: []string{SecretCA}})
	other, err := two.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if other.GetVersionInfo() == got.GetVersionInfo() {
		t.Error("two instances share a CA")
	}
}

// valueOf reads a counter or gauge.
func valueOf(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

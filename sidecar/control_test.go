package sidecar_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"strconv"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/exeat-dev/exeat/identity"
)

const (
	routeType  = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// control is a control plane that knows a few resources and never changes them,
// other than by set.
type control struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	secretv3.UnimplementedSecretDiscoveryServiceServer

	mu        sync.Mutex
	resources map[string]map[string]proto.Message // type, name
	changed   chan struct{}
	peers     map[string]bool // who opened a stream
	rejected  []string        // what clients said when they refused something
}

func newControl() *control {
	return &control{resources: map[string]map[string]proto.Message{}, changed: make(chan struct{}), peers: map[string]bool{}}
}

func (c *control) set(kind, name string, m proto.Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.resources[kind] == nil {
		c.resources[kind] = map[string]proto.Message{}
	}
	c.resources[kind][name] = m
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *control) rejections() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.rejected)
}

func (c *control) saw(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peers[id]
}

func (c *control) DeltaAggregatedResources(s discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	return c.serve(s, "")
}

func (c *control) DeltaSecrets(s secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return c.serve(s, secretType)
}

type deltaStream = grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

func (c *control) serve(s deltaStream, kind string) error {
	id, err := identity.PeerID(s.Context())
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.peers[id.String()] = true
	c.mu.Unlock()
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			req, err := s.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- req:
			case <-s.Context().Done():
				return
			}
		}
	}()
	asked := map[string]map[string]proto.Message{} // what it has been sent
	for {
		c.mu.Lock()
		changed := c.changed
		c.mu.Unlock()
		if err := c.push(s, asked); err != nil {
			return err
		}
		select {
		case <-changed:
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			c.note(req, asked, kind)
		}
	}
}

func (c *control) note(req *discoveryv3.DeltaDiscoveryRequest, asked map[string]map[string]proto.Message, kind string) {
	if req.GetErrorDetail() != nil {
		c.mu.Lock()
		c.rejected = append(c.rejected, req.GetErrorDetail().GetMessage())
		c.mu.Unlock()
	}
	if req.GetTypeUrl() != "" {
		kind = req.GetTypeUrl()
	}
	if asked[kind] == nil {
		asked[kind] = map[string]proto.Message{"": nil} // the first request of a kind is answered, with nothing if need be
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		asked[kind][name] = nil
	}
}

func (c *control) push(s deltaStream, asked map[string]map[string]proto.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for kind, names := range asked {
		_, first := names[""]
		delete(names, "")
		out := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: kind, Nonce: strconv.FormatInt(time.Now().UnixNano(), 10)}
		for name, had := range names {
			m, ok := c.resources[kind][name]
			if !ok || m == had {
				continue
			}
			packed, err := anypb.New(m)
			if err != nil {
				return err
			}
			out.Resources = append(out.Resources, &discoveryv3.Resource{Name: name, Version: out.Nonce, Resource: packed})
			names[name] = m
		}
		if len(out.Resources) > 0 || first && len(names) == 0 {
			if err := s.Send(out); err != nil {
				return err
			}
		}
	}
	return nil
}

// egressRoutes sends task credentials "t1" to the API as a room does, and
// refuses everybody else.
func egressRoutes() *routev3.RouteConfiguration {
	open := &routev3.Route{
		Match: &routev3.RouteMatch{
			PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"},
			Headers: []*routev3.HeaderMatcher{{Name: "proxy-authorization",
				HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true}}},
		},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: "api_internal"}}},
		RequestHeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: "exeat-task", Value: "t1"},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}
	refuse := func(match *routev3.RouteMatch) *routev3.Route {
		return &routev3.Route{
			Match: match,
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 407,
				Body: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: `{"reason":"unknown_task"}`}}}},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "proxy-authenticate", Value: `Basic realm="exeat"`}}},
		}
	}
	return &routev3.RouteConfiguration{Name: "egress", VirtualHosts: []*routev3.VirtualHost{{
		Name: "all", Domains: []string{"*"},
		Routes: []*routev3.Route{
			open,
			refuse(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}}),
			refuse(&routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}),
		},
	}}}
}

// interceptionCA is a new CA, as the control plane sends it.
func interceptionCA(t *testing.T, isCA bool) ([]byte, *tlsv3.Secret) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "interception"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: isCA, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return text, &tlsv3.Secret{Name: "interception-ca", Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{
			TrustedCa: &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: text}},
		}}}
}

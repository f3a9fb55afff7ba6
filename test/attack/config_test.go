package attack

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"io"
	"os"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	accesslog "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/test/stack"
)

const typePrefix = "type.googleapis.com/envoy.config."

// xdsTypes are asked for in this order; what comes for the last tells that the
// others have been answered.
var xdsTypes = []string{typePrefix + "cluster.v3.Cluster", typePrefix + "listener.v3.Listener", secretType, typePrefix + "route.v3.RouteConfiguration"}

// victim is what an attacker knows of another's room: all but its secrets.
type victim struct {
	*scene
	instance string // as the attacker calls itself
}

// subscribe asks for all that there is, and for the victim's by name.
func (v victim) subscribe(kind string) *discovery.DeltaDiscoveryRequest {
	room := policy.RoomName(policy.TaskID(v.task.ID))
	names := map[string][]string{
		xdsTypes[0]: {"*", room, "up/mirror/" + mirrorHost},
		xdsTypes[1]: {"*", room},
		xdsTypes[2]: {"leaf/" + mirrorHost, "interception-ca", "interception-ca/" + v.instance, v.instance},
		xdsTypes[3]: {room + "/" + mirrorHost + "/0", room + "/+/0", room + "/-/0", "egress"},
	}
	return &discovery.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: v.instance, Cluster: "exeat-sidecar"}, TypeUrl: kind, ResourceNamesSubscribe: names[kind],
	}
}

// everything opens ADS and reads until the last of the types was answered.
func (v victim) everything(t *testing.T, conn *grpc.ClientConn) (map[string]*discovery.Resource, error) {
	t.Helper()
	stream, err := discovery.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(stack.Context(t))
	if err != nil {
		return nil, err
	}
	for _, kind := range xdsTypes {
		if err := stream.Send(v.subscribe(kind)); err != nil && err != io.EOF {
			return nil, err
		}
	}
	got := map[string]*discovery.Resource{}
	for got["egress"] == nil || got["interception-ca"] == nil {
		r, err := stream.Recv()
		if err != nil {
			return nil, err
		}
		for _, resource := range r.GetResources() {
			got[resource.GetName()] = resource
		}
		_ = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}) // Recv tells
	}
	return got, nil
}

// An agent, or another's sidecar, opens the control plane to learn a room's
// proxy credential or to be given a leaf that the victim's agent trusts. The
// defence: who is configured goes by the certificate, and only a sidecar's opens
// a stream; what an Envoy says of itself, and what it asks for, change nothing.
func TestTheAgentOpensTheControlPlane(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	v := victim{s, s.sidecar.Instance}
	ca, err := os.ReadFile(s.sidecar.CAFile)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("with the agent's own SVID", func(t *testing.T) {
		conn := s.GRPC(t, s.SVID(t, "spiffe://example.org/agent/mallory"))
		if got, err := v.everything(t, conn); status.Code(err) != codes.PermissionDenied {
			t.Errorf("ADS answered %v %v", got, err)
		}
		wantNothing(t, conn, "interception-ca")
		wantNothing(t, conn, "leaf/"+mirrorHost)
		old, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(stack.Context(t))
		if err == nil {
			_ = old.Send(&discovery.DiscoveryRequest{TypeUrl: xdsTypes[1]}) // Recv tells
			_, err = old.Recv()
		}
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("the older form of ADS answered %v", err)
		}
		logs, err := accesslog.NewAccessLogServiceClient(conn).StreamAccessLogs(stack.Context(t))
		if err == nil {
			_ = logs.Send(&accesslog.StreamAccessLogsMessage{}) // CloseAndRecv tells
			_, err = logs.CloseAndRecv()
		}
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("the access log service answered %v", err)
		}
	})
	for name, id := range map[string]string{
		"as another instance of the same agent": "spiffe://example.org/sidecar/mallory/other",
		"as another agent's sidecar":            "spiffe://example.org/sidecar/triage/other",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := v.everything(t, s.GRPC(t, s.SVID(t, id)))
			if err != nil {
				t.Fatal(err)
			}
			for resource, r := range got {
				for _, mine := range []string{s.task.ID, s.task.ProxyAuthorization(), s.task.Credential.Expose()} {
					if bytes.Contains(r.GetResource().GetValue(), []byte(mine)) {
						t.Errorf("%s tells of the victim's task", resource)
					}
				}
			}
			wantOtherCA(t, got, ca)
			v.wantOtherSecrets(t, s.GRPC(t, s.SVID(t, id)), ca)
		})
	}
	// The same questions, asked by the one who may: all of it is there to be had.
	// Last, because a second Envoy of one instance is nothing that happens.
	got, err := v.everything(t, s.GRPC(t, s.SVID(t, s.sidecar.Instance)))
	if err != nil || !bytes.Equal(caOf(t, got["interception-ca"]), ca) {
		t.Errorf("the instance itself is not told its own CA: %v", err)
	}
	if _, ok := got[policy.RoomName(policy.TaskID(s.task.ID))]; !ok {
		t.Error("the instance itself is not told of its room")
	}
}

func secretOf(t *testing.T, r *discovery.Resource) *tlsv3.Secret {
	t.Helper()
	secret := &tlsv3.Secret{}
	if err := r.GetResource().UnmarshalTo(secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

func caOf(t *testing.T, r *discovery.Resource) []byte {
	t.Helper()
	return secretOf(t, r).GetValidationContext().GetTrustedCa().GetInlineBytes()
}

// wantOtherCA fails when a secret is the victim's CA, or signed by it.
func wantOtherCA(t *testing.T, got map[string]*discovery.Resource, ca []byte) {
	t.Helper()
	if own := caOf(t, got["interception-ca"]); len(own) == 0 || bytes.Equal(own, ca) {
		t.Error("the attacker's interception CA is none, or the victim's")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("the victim has no CA")
	}
	for name, r := range got {
		if r.GetResource().GetTypeUrl() != secretType {
			continue
		}
		block, _ := pem.Decode(secretOf(t, r).GetTlsCertificate().GetCertificateChain().GetInlineBytes())
		if block == nil {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: roots}); err == nil {
			t.Errorf("%s is a leaf that the victim's agent trusts", name)
		}
	}
}

// wantOtherSecrets asks SDS, which answers names in both forms.
func (v victim) wantOtherSecrets(t *testing.T, conn *grpc.ClientConn, ca []byte) {
	t.Helper()
	stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(stack.Context(t))
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"interception-ca", mirrorHost, "leaf/" + mirrorHost}
	if err := stream.Send(&discovery.DiscoveryRequest{Node: &corev3.Node{Id: v.instance}, TypeUrl: secretType, ResourceNames: names}); err != nil {
		t.Fatal(err)
	}
	r, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*discovery.Resource{}
	for _, body := range r.GetResources() {
		resource := &discovery.Resource{Resource: body}
		got[secretOf(t, resource).GetName()] = resource
	}
	if len(got) != len(names) {
		t.Errorf("SDS gave %d secrets of the attacker's own, want %d: %s", len(got), len(names), strings.Join(names, " "))
	}
	wantOtherCA(t, got, ca)
}

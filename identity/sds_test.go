package identity_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/exeat-dev/exeat/identity"
)

// keepFile leaves the socket's file behind, as a killed process does.
func keepFile(l net.Listener) { l.(*net.UnixListener).SetUnlinkOnClose(false) }

func sdsOf(t *testing.T, ttl time.Duration) secretv3.SecretDiscoveryServiceClient {
	t.Helper()
	a := open(t, folder(t), ttl)
	socket := serve(t, a)
	register(t, a, "/sidecar/1")
	return secretv3.NewSecretDiscoveryServiceClient(dial(t, socket))
}

func secretOf(t *testing.T, packed *anypb.Any) *tlsv3.Secret {
	t.Helper()
	var s tlsv3.Secret
	if err := packed.UnmarshalTo(&s); err != nil {
		t.Fatal(err)
	}
	return &s
}

// kind says what a secret holds: a usable key pair, SPIFFE roots, or nothing.
func kind(t *testing.T, s *tlsv3.Secret) string {
	t.Helper()
	if cert := s.GetTlsCertificate(); cert != nil {
		if _, err := tls.X509KeyPair(cert.GetCertificateChain().GetInlineBytes(), cert.GetPrivateKey().GetInlineBytes()); err != nil {
			t.Error(err)
		}
		return "certificate"
	}
	var roots tlsv3.SPIFFECertValidatorConfig
	if err := s.GetValidationContext().GetCustomValidatorConfig().GetTypedConfig().UnmarshalTo(&roots); err != nil {
		t.Error(err)
	}
	if len(roots.TrustDomains) == 1 && roots.TrustDomains[0].Name == domain {
		return "roots"
	}
	return "nothing"
}

func TestSDSKnowsSPIREsNames(t *testing.T) {
	t.Parallel()
	client := sdsOf(t, 0)
	for name, want := range map[string]string{
		"default":                        "certificate",
		"spiffe://example.org/sidecar/1": "certificate",
		"ROOTCA":                         "roots",
		"ALL":                            "roots",
		"spiffe://example.org":           "roots",
	} {
		got, err := client.FetchSecrets(t.Context(), &discovery.DiscoveryRequest{ResourceNames: []string{name}})
		if err != nil || len(got.Resources) != 1 {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if s := secretOf(t, got.Resources[0]); s.GetName() != name || kind(t, s) != want {
			t.Errorf("%s: a %s named %s, want a %s", name, kind(t, s), s.GetName(), want)
		}
	}
	all, err := client.FetchSecrets(t.Context(), &discovery.DiscoveryRequest{})
	if err != nil || len(all.Resources) != 2 {
		t.Errorf("no names: %d resources, %v; want everything", len(all.GetResources()), err)
	}
	for _, name := range []string{"spiffe://example.org/sidecar/2", "spiffe://other.example", "*", ""} {
		_, err := client.FetchSecrets(t.Context(), &discovery.DiscoveryRequest{ResourceNames: []string{"default", name}})
		if status.Code(err) != codes.InvalidArgument {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestSDSPushesRotationAsStateOfTheWorld(t *testing.T) {
	t.Parallel()
	stream, err := sdsOf(t, 2*time.Second).StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"default"}
	seen := map[string]bool{}
	request := &discovery.DiscoveryRequest{ResourceNames: names}
	for len(seen) < 3 {
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		chain := secretOf(t, got.Resources[0]).GetTlsCertificate().GetCertificateChain().GetInlineBytes()
		if seen[string(chain)] {
			t.Error("an acknowledgement was answered with the same again")
		}
		seen[string(chain)] = true
		request = &discovery.DiscoveryRequest{ResourceNames: names, VersionInfo: got.VersionInfo, ResponseNonce: got.Nonce}
		if len(seen) == 2 { // a rejection waits for the next change as well
			request.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument)}
		}
	}
}

func TestSDSAnswersAChangedSubscription(t *testing.T) {
	t.Parallel()
	stream, err := sdsOf(t, 0).StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	nonce := ""
	for _, names := range [][]string{{"default"}, {"default", "ROOTCA"}, {"ROOTCA"}} {
		if err := stream.Send(&discovery.DiscoveryRequest{ResourceNames: names, ResponseNonce: nonce}); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil || len(got.Resources) != len(names) {
			t.Fatalf("%v: %d resources, %v", names, len(got.GetResources()), err)
		}
		nonce = got.Nonce
	}
}

func TestSDSSpeaksDelta(t *testing.T) {
	t.Parallel()
	stream, err := sdsOf(t, 2*time.Second).DeltaSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	send := func(req *discovery.DeltaDiscoveryRequest) *discovery.DeltaDiscoveryResponse {
		t.Helper()
		if err := stream.Send(req); err != nil {
			t.Fatal(err)
		}
		got, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	first := send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"default", "ROOTCA"}})
	if len(first.Resources) != 2 {
		t.Fatalf("got %d resources, want both", len(first.Resources))
	}
	second := send(&discovery.DeltaDiscoveryRequest{ResponseNonce: first.Nonce})
	if len(second.Resources) != 1 || second.Resources[0].Name != "default" {
		t.Errorf("the rotation brought %d resources, want the certificate alone", len(second.Resources))
	}
	stream.Send(&discovery.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{"of-somebody-else"}})
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a name without a right to it: %v", err)
	}
}

func TestAnIdentitySocketServesOnePID(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	workloadSocket := serve(t, a)
	register(t, a, "/sidecar/1")
	w, err := identity.OpenWorkload(t.Context(), workloadSocket, identity.ID{}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Close)

	ask := func(verdict error) error {
		socket := filepath.Join(folder(t), "i.sock")
		listener, err := identity.ListenUnix(socket)
		if err != nil {
			t.Fatal(err)
		}
		sds := identity.NewSDS(w, func(int) error { return verdict }, quiet())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- sds.ServeOn(ctx, listener) }()
		defer func() { cancel(); <-ended }()
		conn := dial(t, socket)
		waiting := discovery.DiscoveryRequest{ResourceNames: []string{"default", "ROOTCA"}}
		_, err = secretv3.NewSecretDiscoveryServiceClient(conn).FetchSecrets(t.Context(), &waiting)
		return err
	}
	if err := ask(nil); err != nil {
		t.Errorf("the one PID: %v", err)
	}
	if err := ask(errors.New("somebody else")); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another PID: %v", err)
	}
}

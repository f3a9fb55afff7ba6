package attack

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/test/stack"
)

// checkOf is what the sidecar sends for the granted call of a task: the
// attacker knows it all, for none of it is secret.
func checkOf(task, agent string) *authv3.CheckRequest {
	header := func(name, value string) *corev3.HeaderValue {
		return &corev3.HeaderValue{Key: name, RawValue: []byte(value)}
	}
	return &authv3.CheckRequest{Attributes: &authv3.AttributeContext{
		ContextExtensions: map[string]string{
			policy.ExtensionTask: task, policy.ExtensionAgent: agent, policy.ExtensionDestination: "mirror",
		},
		TlsSession: &authv3.AttributeContext_TLSSession{Sni: mirrorHost},
		Request: &authv3.AttributeContext_Request{Http: &authv3.AttributeContext_HttpRequest{
			Method: http.MethodGet, Scheme: "https", Host: mirrorHost, Path: granted,
			HeaderMap: &corev3.HeaderMap{Headers: []*corev3.HeaderValue{
				header(":method", http.MethodGet), header(":scheme", "https"), header(":authority", mirrorHost), header(":path", granted),
			}},
		}},
	}}
}

func ask(t *testing.T, conn *grpc.ClientConn, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	t.Helper()
	return authv3.NewAuthorizationClient(conn).Check(stack.Context(t), req)
}

func allowed(r *authv3.CheckResponse) bool {
	return r.GetOkResponse() != nil || r.GetStatus() != nil && r.GetStatus().GetCode() == int32(codes.OK)
}

// The agent asks the judge itself, to be told yes and to be given the credential
// that comes with it. The defence: only a sidecar's SVID opens Check, and the
// task must be that very instance's.
func TestTheAgentCallsCheckItself(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	request := checkOf(s.task.ID, "mallory")

	control := func(t *testing.T) {
		t.Helper()
		r, err := ask(t, s.GRPC(t, s.SVID(t, s.sidecar.Instance)), request)
		if err != nil || !allowed(r) || len(r.GetOkResponse().GetHeaders()) == 0 {
			t.Fatalf("the sidecar's own identity is told %v %v: the test's request is not what a sidecar sends", r.GetStatus(), err)
		}
	}
	control(t)

	s.outsidersCheck(t, request)
	// From here on TLS lets it in: the answer itself must be no.
	t.Run("with the agent's own SVID", func(t *testing.T) {
		wantCode(t, codes.PermissionDenied, request, s.GRPC(t, s.SVID(t, "spiffe://example.org/agent/mallory")))
	})
	for name, id := range map[string]string{
		"with the API server's SVID":      "spiffe://example.org/exeat/api",
		"with an SVID nobody knows":       "spiffe://example.org/nobody",
		"with an SVID above all sidecars": "spiffe://example.org/sidecar/mallory",
		"with an SVID below a sidecar":    s.sidecar.Instance + "/x",
	} {
		t.Run(name, func(t *testing.T) {
			r, err := ask(t, s.GRPC(t, s.SVID(t, id)), request)
			wantDecision(t, policy.UnknownAgent, r, err)
		})
	}
	t.Run("over HTTP without gRPC", func(t *testing.T) {
		c := &http.Client{Transport: &http.Transport{TLSClientConfig: s.SVID(t, "spiffe://example.org/agent/mallory"), ForceAttemptHTTP2: true}}
		defer c.CloseIdleConnections()
		r := stack.Do(t, c, http.MethodPost, "https://"+s.Endpoints.GRPC+checkPath)
		if r.Err == nil && r.Status == http.StatusOK && r.Header.Get("Grpc-Status") == "0" {
			t.Errorf("answered %d %v", r.Status, r.Header)
		}
	})
	t.Run("replaying what a sidecar sent, as another instance of the same agent", func(t *testing.T) {
		r, err := ask(t, s.GRPC(t, s.SVID(t, "spiffe://example.org/sidecar/mallory/other")), request)
		wantDecision(t, policy.UnknownTask, r, err)
	})
	t.Run("replaying it as another agent's sidecar", func(t *testing.T) {
		conn := s.GRPC(t, s.SVID(t, "spiffe://example.org/sidecar/triage/x"))
		r, err := ask(t, conn, request)
		wantDecision(t, policy.UnknownAgent, r, err) // the room's agent is not the peer's
		r, err = ask(t, conn, checkOf(s.task.ID, "triage"))
		wantDecision(t, policy.UnknownTask, r, err)
	})
	t.Run("without the room's context extensions", func(t *testing.T) {
		bare := checkOf(s.task.ID, "mallory")
		bare.Attributes.ContextExtensions = nil
		r, err := ask(t, s.GRPC(t, s.SVID(t, s.sidecar.Instance)), bare)
		wantDecision(t, policy.MalformedCall, r, err)
	})
	t.Run("with nothing in it", func(t *testing.T) {
		r, err := ask(t, s.GRPC(t, s.SVID(t, s.sidecar.Instance)), &authv3.CheckRequest{})
		wantDecision(t, policy.MalformedCall, r, err)
	})
	control(t)
}

// outsidersCheck has those ask whom TLS does not let in.
func (s *scene) outsidersCheck(t *testing.T, request *authv3.CheckRequest) {
	t.Helper()
	t.Run("without TLS", func(t *testing.T) {
		conn, err := grpc.NewClient(s.Endpoints.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		wantCode(t, codes.Unavailable, request, conn)
	})
	t.Run("without a certificate", func(t *testing.T) {
		anonymous := s.SVID(t, s.sidecar.Instance)
		anonymous.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
		wantCode(t, codes.Unavailable, request, s.GRPC(t, anonymous))
	})
	t.Run("with a certificate of its own that names the sidecar", func(t *testing.T) {
		forged := s.SVID(t, s.sidecar.Instance)
		forged.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return selfSigned(t, s.sidecar.Instance), nil
		}
		wantCode(t, codes.Unavailable, request, s.GRPC(t, forged))
	})
	t.Run("with an SVID of another trust domain", func(t *testing.T) {
		// Its root claims the same name, too.
		for _, domain := range []string{"example.net", s.Endpoints.TrustDomain} {
			elsewhere := stack.Authority(t, filepath.Join(t.TempDir(), "authority"), domain)
			svid, err := elsewhere.Source(stack.ID(t, "spiffe://"+domain+"/sidecar/mallory/x"), nil, nil).GetX509SVID()
			if err != nil {
				t.Fatal(err)
			}
			config := s.SVID(t, s.sidecar.Instance)
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
				return &tls.Certificate{Certificate: [][]byte{svid.Certificates[0].Raw}, PrivateKey: svid.PrivateKey}, nil
			}
			wantCode(t, codes.Unavailable, request, s.GRPC(t, config))
		}
	})
}

const checkPath = "/envoy.service.auth.v3.Authorization/Check"

func wantCode(t *testing.T, want codes.Code, req *authv3.CheckRequest, conn *grpc.ClientConn) {
	t.Helper()
	if r, err := ask(t, conn, req); status.Code(err) != want || r != nil {
		t.Errorf("answered %v %v, want code %s", r, err, want)
	}
}

func wantDecision(t *testing.T, want policy.Reason, r *authv3.CheckResponse, err error) {
	t.Helper()
	body := r.GetDeniedResponse().GetBody()
	if err != nil || allowed(r) || !strings.Contains(body, `"reason":"`+want.String()+`"`) {
		t.Errorf("answered %v %s %v, want a denial with reason %s", r.GetStatus(), body, err, want)
	}
}

// selfSigned is a certificate that looks like an SVID and is vouched for by itself.
func selfSigned(t *testing.T, id string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(id)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		URIs: []*url.URL{uri}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// The agent reaches for the judge through the one listener that is its own,
// EXEAT_URL. The defence: that listener leads to the API's paths alone, and
// whatever says that it is gRPC is refused; the API is another server besides.
func TestTheAgentCallsCheckThroughItsAPI(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	host := strings.TrimPrefix(s.sidecar.Status.API, "http://")
	room := "exeat.internal"

	// ways are the two listeners: that of EXEAT_URL, and that of the room.
	ways := map[string]func(t *testing.T, head string) stack.Reply{
		"EXEAT_URL": func(t *testing.T, head string) stack.Reply {
			return stack.Exchange(stack.Dial(t, host), http.MethodPost, strings.ReplaceAll(head, "HOST", host))
		},
		"the room": func(t *testing.T, head string) stack.Reply {
			return stack.Exchange(s.task.Tunnel(t, room+":80"), http.MethodPost, strings.ReplaceAll(head, "HOST", room))
		},
	}
	t.Run("HTTP/2 at EXEAT_URL", func(t *testing.T) {
		refused{http.StatusBadRequest, "malformed_call"}.check(t, ways["EXEAT_URL"](t, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))
	})
	t.Run("HTTP/2 in the room", func(t *testing.T) {
		h2 := stack.NewH2(t, s.task.Tunnel(t, room+":80"))
		stack.WantOK(t, h2.Do(stack.Message{Headers: stack.Request(http.MethodGet, "http", room, "/v1/capabilities")}))
		for _, contentType := range []string{"application/grpc", "application/grpc+proto", "application/json"} {
			r := h2.Do(stack.Message{
				Headers: stack.Request(http.MethodPost, "http", room, checkPath, stack.Field{Name: "content-type", Value: contentType}, stack.Field{Name: "te", Value: "trailers"}),
				Body:    []byte{0, 0, 0, 0, 0},
			})
			if r.Err != nil || r.Header.Get("Grpc-Status") == "0" || r.Header.Get("Grpc-Status") == "" && r.Status < 400 {
				t.Errorf("%s: answered %d %v %s %v", contentType, r.Status, r.Header, r.Body, r.Err)
			}
		}
	})
	for way, send := range ways {
		t.Run(way, func(t *testing.T) {
			control := send(t, "GET /v1/capabilities HTTP/1.1\r\nHost: HOST\r\n\r\n")
			stack.WantOK(t, control)
			for _, attack := range overHTTP {
				r := send(t, attack.request)
				if r.Header.Get("Grpc-Status") == "0" || r.Status == http.StatusSwitchingProtocols {
					t.Errorf("%q: a gRPC server answered %v", attack.request, r.Header)
				}
				attack.want.check(t, r)
			}
		})
	}
}

// overHTTP are requests for Check in HTTP/1.1; HOST is where they are sent.
var overHTTP = []struct {
	request string
	want    refused
}{
	// Envoy puts its own answer to gRPC into gRPC: 200, and the status in a header.
	{"POST " + checkPath + " HTTP/1.1\r\nHost: HOST\r\nContent-Type: application/grpc\r\nTE: trailers\r\nContent-Length: 5\r\n\r\n\x00\x00\x00\x00\x00", refused{200, ""}},
	{post(checkPath, "Content-Type: Application/gRPC+proto"), refused{415, "malformed_call"}},
	{post(checkPath, "Content-Type: application/grpc-web"), refused{415, "malformed_call"}},
	{post(checkPath, "Content-Type: application/grpc-web-text"), refused{415, "malformed_call"}},
	{post(checkPath, "Content-Type: application/json;x=application/grpc"), refused{415, "malformed_call"}},
	{post("/v1/tasks", "Content-Type: application/json", "Content-Type: application/grpc"), refused{415, "malformed_call"}},
	{post(checkPath, "Content-Type: application/json"), refused{404, "malformed_call"}},
	{post(checkPath, "Content-Type: application/x-protobuf"), refused{404, "malformed_call"}},
	{post(checkPath, "X-Original-URL: /v1/tasks", "X-HTTP-Method-Override: GET"), refused{404, "malformed_call"}},
	{post("/v1/.."+checkPath, "Content-Type: application/json"), refused{404, "malformed_call"}},
	{post("/v1/%2e%2e"+checkPath, "Content-Type: application/json"), refused{404, "malformed_call"}},
	{post("//"+checkPath[1:], "Content-Type: application/json"), refused{404, "malformed_call"}},
	{post("/v1/..%2f"+checkPath[1:], "Content-Type: application/json"), refused{400, "malformed_call"}},
	// The upgrade is not taken: what answers is HTTP/1.1.
	{"GET /v1/capabilities HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", refused{200, ""}},
}

// post is a request without a body.
func post(path string, headers ...string) string {
	return "POST " + path + " HTTP/1.1\r\nHost: HOST\r\n" + strings.Join(append(headers, "Content-Length: 0"), "\r\n") + "\r\n\r\n"
}

// Another process of the same user asks for the sidecar's identity at the two
// sockets that give it. The defence: who calls is told by the kernel, and only
// the sidecar's own Envoy, or a registered process, is anybody.
func TestAStrangerAsksForTheSidecarsIdentity(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	stack.WantOK(t, stack.Get(t, s.task.HTTP(t), itemAt(s.mirror))) // Envoy itself was given it

	t.Run("at the sidecar's identity socket", func(t *testing.T) {
		conn := unix(t, filepath.Join(s.sidecar.RunDir, "identity.sock"))
		for _, name := range []string{"default", "ROOTCA", s.sidecar.Instance, ""} {
			wantNothing(t, conn, name)
		}
		wantNoCheck(t, conn, checkOf(s.task.ID, "mallory"))
	})
	t.Run("at the Workload API", func(t *testing.T) {
		conn := unix(t, s.Endpoints.WorkloadSocket)
		wantNothing(t, conn, "default")
		wantNoCheck(t, conn, checkOf(s.task.ID, "mallory"))
		ctx := metadata.AppendToOutgoingContext(stack.Context(t), "workload.spiffe.io", "true")
		stream, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509SVID(ctx, &workload.X509SVIDRequest{})
		if err == nil {
			_, err = stream.Recv()
		}
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("the Workload API answered %v", err)
		}
		bundles, err := workload.NewSpiffeWorkloadAPIClient(conn).FetchX509Bundles(ctx, &workload.X509BundlesRequest{})
		if err == nil {
			_, err = bundles.Recv()
		}
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("the Workload API answered %v", err)
		}
	})
}

// wantNoCheck asks for a decision where only identities are given.
func wantNoCheck(t *testing.T, conn *grpc.ClientConn, req *authv3.CheckRequest) {
	t.Helper()
	r, err := ask(t, conn, req)
	if code := status.Code(err); r != nil || code != codes.PermissionDenied && code != codes.Unimplemented {
		t.Errorf("Check answered %v %v", r, err)
	}
}

func unix(t *testing.T, path string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// wantNothing asks by all three forms of SDS.
func wantNothing(t *testing.T, conn *grpc.ClientConn, name string) {
	t.Helper()
	ctx, cancel := context.WithCancel(stack.Context(t))
	defer cancel()
	var names []string
	if name != "" {
		names = []string{name}
	}
	c := secretv3.NewSecretDiscoveryServiceClient(conn)
	ask := map[string]func() (any, error){
		"FetchSecrets": func() (any, error) {
			return c.FetchSecrets(ctx, &discovery.DiscoveryRequest{TypeUrl: secretType, ResourceNames: names})
		},
		"StreamSecrets": func() (any, error) {
			stream, err := c.StreamSecrets(ctx)
			if err == nil {
				err = stream.Send(&discovery.DiscoveryRequest{TypeUrl: secretType, ResourceNames: names})
			}
			if err != nil && err != io.EOF {
				return nil, err
			}
			return stream.Recv()
		},
		"DeltaSecrets": func() (any, error) {
			stream, err := c.DeltaSecrets(ctx)
			if err == nil {
				err = stream.Send(&discovery.DeltaDiscoveryRequest{TypeUrl: secretType, ResourceNamesSubscribe: []string{name}})
			}
			if err != nil && err != io.EOF {
				return nil, err
			}
			return stream.Recv()
		},
	}
	for method, call := range ask {
		if r, err := call(); status.Code(err) != codes.PermissionDenied && status.Code(err) != codes.Unimplemented {
			t.Errorf("%s of %q answered %v %v", method, name, r, err)
		}
	}
}

package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"testing"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	alsv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
)

// wire is the Server on a real port behind mTLS, in a trust domain of its own.
type wire struct {
	authority *identity.Authority
	address   string
	server    identity.ID
}

func serve(t *testing.T, w *world) *wire {
	t.Helper()
	authority, err := identity.OpenAuthority(identity.AuthorityConfig{
		Dir: filepath.Join(t.TempDir(), "authority"), TrustDomain: "example.org", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	id, err := identity.GRPCServer("example.org")
	if err != nil {
		t.Fatal(err)
	}
	source := authority.Source(id, nil, nil)
	g := grpc.NewServer(grpc.Creds(credentials.NewTLS(identity.ServerTLS(source, true))))
	w.server(t, "").Register(g)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = g.Serve(listener) }()
	t.Cleanup(func() { g.Stop(); <-served })
	return &wire{authority: authority, address: listener.Addr().String(), server: id}
}

// as connects with the SVID of id; without a certificate when id is empty.
func (w *wire) as(t *testing.T, id string) *grpc.ClientConn {
	t.Helper()
	var source *identity.Source
	if id != "" {
		parsed, err := identity.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		source = w.authority.Source(parsed, nil, nil)
	} else {
		source = w.authority.Source(w.server, nil, nil) // for the roots alone
	}
	config := identity.ClientTLS(source, w.server)
	if id == "" {
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &tls.Certificate{}, nil
		}
	}
	conn, err := grpc.NewClient(w.address, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// A grant works only through its own agent's sidecar, whoever else shows
// whatever certificate of the same trust domain.
func TestOnlyTheSidecarsCertificateOpensTheGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wire := serve(t, w)
	check := func(id string) (*authv3.CheckResponse, error) {
		return authv3.NewAuthorizationClient(wire.as(t, id)).Check(t.Context(), get())
	}
	resp, err := check(sidecarOne)
	if err != nil || resp.GetOkResponse() == nil {
		t.Fatalf("the sidecar itself: %v, %v", resp, err)
	}
	for id, want := range map[string]policy.Reason{
		sidecarTwo: policy.UnknownTask, sidecarElse: policy.UnknownAgent, wire.server.String(): policy.UnknownAgent,
	} {
		if resp, err = check(id); err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		wantDenied(t, resp, want)
	}
	if resp, err = check(agentSVID); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the agent itself: %v, %v", resp, err)
	}
	if resp, err = check(""); status.Code(err) != codes.Unauthenticated {
		t.Errorf("no certificate: %v, %v", resp, err)
	}
}

func TestOnlyASidecarTellsHowCallsEnded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	wire := serve(t, w)
	tell := func(id string) error {
		stream, err := alsv3.NewAccessLogServiceClient(wire.as(t, id)).StreamAccessLogs(context.WithoutCancel(t.Context()))
		if err != nil {
			return err
		}
		// A send that fails says why on receiving.
		_ = stream.Send(&alsv3.StreamAccessLogsMessage{
			Identifier: &alsv3.StreamAccessLogsMessage_Identifier{LogName: policy.AccessLogName},
			LogEntries: &alsv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: &alsv3.StreamAccessLogsMessage_HTTPAccessLogEntries{
				LogEntry: []*datav3.HTTPAccessLogEntry{logged(200, "via_upstream", map[string]string{metaDecision: decisionID})},
			}},
		})
		_, err = stream.CloseAndRecv()
		return err
	}
	if err := tell(sidecarOne); err != nil || len(w.outcomes) != 1 {
		t.Fatalf("the sidecar: %v, %d outcomes", err, len(w.outcomes))
	}
	for id, want := range map[string]codes.Code{
		sidecarTwo: codes.OK, agentSVID: codes.PermissionDenied, "": codes.Unauthenticated,
	} {
		if err := tell(id); status.Code(err) != want {
			t.Errorf("%q: %v, want %v", id, err, want)
		}
	}
	if len(w.outcomes) != 1 {
		t.Errorf("%d outcomes; what others told was listened to", len(w.outcomes))
	}
}

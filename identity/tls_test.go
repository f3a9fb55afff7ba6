package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/exeat-dev/exeat/identity"
)

// whoami answers with the caller's SPIFFE ID, or with 401.
func whoami(w http.ResponseWriter, r *http.Request) {
	id, err := identity.PeerIDFromState(r.TLS)
	if err != nil {
		http.Error(w, "nobody", http.StatusUnauthorized)
		return
	}
	io.WriteString(w, id.String()+" "+r.Proto)
}

// httpsServer gives the address of a server with this configuration.
func httpsServer(t *testing.T, config *tls.Config) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(whoami), TLSConfig: config, ErrorLog: log.New(io.Discard, "", 0)}
	go server.ServeTLS(listener, "", "")
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

func get(t *testing.T, address string, config *tls.Config) (int, string, error) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + address)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func TestBothEndsAreKnownBySPIFFEID(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	server := httpsServer(t, identity.ServerTLS(a.Source(mustID(t, "/exeat/api"), nil, nil), false))
	me := a.Source(mustID(t, "/sidecar/1"), nil, nil)

	code, body, err := get(t, server, identity.ClientTLS(me, mustID(t, "/exeat/api")))
	if err != nil || code != 200 || body != "spiffe://example.org/sidecar/1 HTTP/2.0" {
		t.Errorf("got %d %q %v", code, body, err)
	}
	if _, _, err := get(t, server, identity.ClientTLS(me, mustID(t, "/exeat/grpc"))); err == nil {
		t.Error("a server with another SPIFFE ID was accepted")
	}
	if _, _, err := get(t, server, identity.ClientTLS(me, identity.ID{})); err == nil {
		t.Error("a client that expects nobody accepted somebody")
	}
}

func TestAClientWithoutAnSVIDIsRefused(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	other := open(t, folder(t), 0) // same trust domain by name, other keys
	src := a.Source(mustID(t, "/exeat/api"), []string{"localhost"}, []net.IP{net.IPv4(127, 0, 0, 1)})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(a.BundlePEM())
	plain := func() *tls.Config { return &tls.Config{RootCAs: roots} }
	foreign := func() *tls.Config {
		c := plain()
		c.GetClientCertificate = identity.ClientTLS(other.Source(mustID(t, "/sidecar/1"), nil, nil), mustID(t, "/x")).GetClientCertificate
		return c
	}

	strict := httpsServer(t, identity.ServerTLS(src, false))
	if _, _, err := get(t, strict, plain()); err == nil {
		t.Error("no certificate: accepted")
	}
	optional := httpsServer(t, identity.ServerTLS(src, true))
	if code, _, err := get(t, optional, plain()); err != nil || code != 401 {
		t.Errorf("no certificate, optional: got %d %v, want the handler to see nobody", code, err)
	}
	for name, address := range map[string]string{"strict": strict, "optional": optional} {
		if _, _, err := get(t, address, foreign()); err == nil {
			t.Errorf("%s: an SVID of a foreign root was accepted", name)
		}
	}
	old := plain()
	old.MaxVersion = tls.VersionTLS12
	if _, _, err := get(t, optional, old); err == nil {
		t.Error("TLS 1.2 was accepted")
	}
}

func TestPeerIDOfAGRPCCall(t *testing.T) {
	t.Parallel()
	a := open(t, folder(t), 0)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(
		grpc.Creds(credentials.NewTLS(identity.ServerTLS(a.Source(mustID(t, "/exeat/grpc"), nil, nil), false))),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			if id, err := identity.PeerID(ctx); err != nil || id != mustID(t, "/sidecar/1") {
				return nil, status.Error(codes.PermissionDenied, "wrong peer")
			}
			return next(ctx, req)
		}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	go server.Serve(listener)
	t.Cleanup(server.Stop)

	check := func(path string) error {
		creds := credentials.NewTLS(identity.ClientTLS(a.Source(mustID(t, path), nil, nil), mustID(t, "/exeat/grpc")))
		conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_, err = healthpb.NewHealthClient(conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
		return err
	}
	if err := check("/sidecar/1"); err != nil {
		t.Error(err)
	}
	if err := check("/sidecar/2"); status.Code(err) != codes.PermissionDenied {
		t.Errorf("another sidecar: %v", err)
	}
	if _, err := identity.PeerID(t.Context()); !errors.Is(err, identity.ErrNoPeer) {
		t.Errorf("no call at all: %v", err)
	}
	if _, err := identity.PeerIDFromState(nil); !errors.Is(err, identity.ErrNoPeer) {
		t.Errorf("no TLS at all: %v", err)
	}
}

func TestAServerShowsAFreshSVIDOnEachHandshake(t *testing.T) {
	t.Parallel()
	clock := newClock()
	a, err := identity.OpenAuthority(identity.AuthorityConfig{Dir: folder(t), TrustDomain: domain, Clock: clock.now, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	server := httpsServer(t, identity.ServerTLS(a.Source(mustID(t, "/exeat/api"), nil, nil), true))
	serial := func() string {
		conn, err := tls.Dial("tcp", server, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	if serial() != first {
		t.Error("renewed before half of its life was over")
	}
	clock.advance(31 * time.Minute)
	if serial() == first {
		t.Error("not renewed after half of its life")
	}
}

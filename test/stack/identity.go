package stack

import (
	"crypto/tls"
	"io"
	"log/slog"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/exeat-dev/exeat/identity"
)

// ID is a SPIFFE ID.
func ID(t testing.TB, text string) identity.ID {
	t.Helper()
	id, err := identity.ParseID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// Authority is an authority of identities in a folder; that of exeatd is in
// its data folder.
func Authority(t testing.TB, dir, trustDomain string) *identity.Authority {
	t.Helper()
	a, err := identity.OpenAuthority(identity.AuthorityConfig{
		Dir: dir, TrustDomain: trustDomain, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Authority is exeatd's own: whoever may read its folder can be anybody.
func (s *Stack) Authority(t testing.TB) *identity.Authority {
	t.Helper()
	return Authority(t, filepath.Join(s.Data, "authority"), s.Endpoints.TrustDomain)
}

// SVID is the TLS of whoever has this identity, towards exeatd's gRPC server.
func (s *Stack) SVID(t testing.TB, id string) *tls.Config {
	t.Helper()
	return identity.ClientTLS(s.Authority(t).Source(ID(t, id), nil, nil), s.grpcServer(t))
}

func (s *Stack) grpcServer(t testing.TB) identity.ID {
	t.Helper()
	id, err := identity.GRPCServer(s.Endpoints.TrustDomain)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// GRPC is a connection to exeatd's gRPC server.
func (s *Stack) GRPC(t testing.TB, config *tls.Config) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient(s.Endpoints.GRPC, grpc.WithTransportCredentials(credentials.NewTLS(config)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

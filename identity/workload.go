package identity

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// maxRequest bounds what a caller may send: names and nonces, nothing else.
const maxRequest = 64 << 10

// errNoIdentity is the answer to a caller that is no workload (Workload API,
// section 4.2); go-spiffe asks again, so that an entry made later is found.
var errNoIdentity = status.Error(codes.PermissionDenied, "no identity issued")

// ServeWorkload serves the Workload API and Envoy's SDS on a Unix socket, until
// ctx ends. The socket is private to this user; within it a caller gets what its
// own process is registered for.
func (a *Authority) ServeWorkload(ctx context.Context, socketPath string) error {
	listener, err := ListenUnix(socketPath)
	if err != nil {
		return err
	}
	return a.ServeWorkloadOn(ctx, listener)
}

// ServeWorkloadOn does the same on a listener of ListenUnix, for who must know
// that callers are heard before going on. It closes the listener.
func (a *Authority) ServeWorkloadOn(ctx context.Context, listener net.Listener) error {
	server := newUnixServer(grpc.StreamInterceptor(requireHeader), grpc.UnaryInterceptor(requireHeaderUnary))
	workload.RegisterSpiffeWorkloadAPIServer(server, &workloadAPI{holders: a.caller})
	newSDS(a.caller, a.log).Register(server)
	return serveUntil(ctx, server, listener)
}

// caller is what whoever made this call holds.
func (a *Authority) caller(ctx context.Context) (material, <-chan struct{}, error) {
	p, err := PeerFromContext(ctx)
	if err != nil {
		return material{}, nil, errNoIdentity
	}
	return a.holdings(p.process())
}

func newUnixServer(opts ...grpc.ServerOption) *grpc.Server {
	return grpc.NewServer(append(opts, grpc.Creds(PeerCredentials()), grpc.MaxRecvMsgSize(maxRequest))...)
}

// serveUntil serves until ctx ends. It stops hard: every stream here is without
// end, and its clients come back by themselves.
func serveUntil(ctx context.Context, server *grpc.Server, listener net.Listener) error {
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	defer server.Stop()
	if err := server.Serve(listener); err != nil && ctx.Err() == nil {
		return fmt.Errorf("identity: the socket's server ended: %w", err)
	}
	return nil
}

// holders gives what a caller holds now, and a channel that is closed when it
// should be asked again.
type holders func(context.Context) (material, <-chan struct{}, error)

// follow sends what the caller holds, now and after each change.
func (h holders) follow(ctx context.Context, send func(material) error) error {
	for {
		m, changed, err := h(ctx)
		if err != nil {
			return err
		}
		if err := send(m); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
	}
}

// workloadAPI is the X.509 half of the Workload API. The JWT half answers
// Unimplemented, as the embedded type does.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	holders holders
}

// FetchX509SVID streams the caller's SVIDs, with each renewal.
func (w *workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	var last *workload.X509SVIDResponse
	return w.holders.follow(stream.Context(), func(m material) error {
		next, err := svidResponse(m)
		if err != nil || proto.Equal(last, next) {
			return err
		}
		last = next
		return stream.Send(next)
	})
}

// FetchX509Bundles streams the roots that the caller may verify others by.
func (w *workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	var last *workload.X509BundlesResponse
	return w.holders.follow(stream.Context(), func(m material) error {
		next := &workload.X509BundlesResponse{Bundles: map[string][]byte{}}
		for _, b := range m.bundles {
			next.Bundles[b.TrustDomain().IDString()] = concat(b.X509Authorities())
		}
		if proto.Equal(last, next) {
			return nil
		}
		last = next
		return stream.Send(next)
	})
}

func svidResponse(m material) (*workload.X509SVIDResponse, error) {
	out := &workload.X509SVIDResponse{}
	for _, svid := range m.svids {
		one, err := svidMessage(svid)
		if err != nil {
			return nil, status.Error(codes.Internal, "the SVID cannot be encoded")
		}
		one.Bundle = concat(m.bundles[0].X509Authorities())
		out.Svids = append(out.Svids, one)
	}
	return out, nil
}

func svidMessage(svid *x509svid.SVID) (*workload.X509SVID, error) {
	key, err := x509.MarshalPKCS8PrivateKey(svid.PrivateKey)
	if err != nil {
		return nil, err
	}
	return &workload.X509SVID{SpiffeId: svid.ID.String(), X509Svid: concat(svid.Certificates), X509SvidKey: key}, nil
}

func concat(certs []*x509.Certificate) []byte {
	var out []byte
	for _, cert := range certs {
		out = append(out, cert.Raw...)
	}
	return out
}

// The Workload API's security header (section 4.1.1) keeps out whoever was
// tricked into sending a request here. Envoy's SDS knows no such header.
const securityHeader = "workload.spiffe.io"

func requireHeader(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if err := checkHeader(stream.Context(), srv); err != nil {
		return err
	}
	return next(srv, stream)
}

func requireHeaderUnary(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if err := checkHeader(ctx, info.Server); err != nil {
		return nil, err
	}
	return next(ctx, req)
}

func checkHeader(ctx context.Context, srv any) error {
	if _, ok := srv.(*workloadAPI); !ok {
		return nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get(securityHeader); len(values) != 1 || values[0] != "true" {
		return status.Error(codes.InvalidArgument, "security header missing from request")
	}
	return nil
}

package identity

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// SDS serves SVIDs and bundles to Envoy by its secret discovery service, in all
// three of its forms.
type SDS struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	holders holders
	log     *slog.Logger
}

// Changing is an X509Source that says when it has changed.
type Changing interface {
	X509Source
	// Changed gives a channel that is closed at the next change.
	Changed() <-chan struct{}
}

// NewSDS serves one identity to the processes that checkPeer lets pass, such as
// the one Envoy beside exeat-sidecar. Register it on a server with
// PeerCredentials, or let ServeOn do both.
func NewSDS(src Changing, checkPeer func(pid int) error, log *slog.Logger) *SDS {
	return newSDS(func(ctx context.Context) (material, <-chan struct{}, error) {
		p, err := PeerFromContext(ctx)
		if err == nil {
			err = checkPeer(p.PID)
		}
		if err != nil {
			log.Warn("identity socket: a caller was refused", "pid", p.PID)
			return material{}, nil, errNoIdentity
		}
		changed := src.Changed() // before the look, so that no change is missed
		m, err := materialOf(src)
		return m, changed, err
	}, log)
}

func materialOf(src X509Source) (material, error) {
	svid, err := src.GetX509SVID()
	if err != nil {
		return material{}, status.Error(codes.Unavailable, "there is no SVID at present")
	}
	bundle, err := src.GetX509BundleForTrustDomain(svid.ID.TrustDomain())
	if err != nil {
		return material{}, status.Error(codes.Unavailable, "there is no bundle at present")
	}
	return newMaterial(svid, bundle), nil
}

func newSDS(h holders, log *slog.Logger) *SDS { return &SDS{holders: h, log: log} }

// Register adds the service to a server that has PeerCredentials.
func (s *SDS) Register(server *grpc.Server) {
	secretv3.RegisterSecretDiscoveryServiceServer(server, s)
}

// ServeOn serves on a listener of ListenUnix until ctx ends, and closes it.
func (s *SDS) ServeOn(ctx context.Context, listener net.Listener) error {
	server := newUnixServer()
	s.Register(server)
	return serveUntil(ctx, server, listener)
}

// FetchSecrets answers once.
func (s *SDS) FetchSecrets(ctx context.Context, req *discovery.DiscoveryRequest) (*discovery.DiscoveryResponse, error) {
	m, _, err := s.holders(ctx)
	if err != nil {
		return nil, err
	}
	return stateOfWorld(m, req.GetResourceNames())
}

// StreamSecrets answers with all that was asked for, and again with each change
// (the state-of-the-world form, the only one that SPIRE's agent speaks).
func (s *SDS) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	return serve(s, stream, &worldRequest{})
}

// DeltaSecrets answers with what was subscribed to, and then with what changed.
func (s *SDS) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	return serve(s, stream, &deltaRequest{sent: map[string]string{}})
}

// subscription is what one stream has asked for, in one of the two forms.
type subscription[Q, A any] interface {
	// take reads a request, and reports whether it may want an answer.
	take(*Q, *slog.Logger) bool
	// answer is nil when the client has everything as it is.
	answer(material) (*A, error)
}

func serve[Q, A any](s *SDS, stream grpc.BidiStreamingServer[Q, A], asked subscription[Q, A]) error {
	ctx := stream.Context()
	requests := receive(ctx, stream.Recv)
	var changed <-chan struct{} // nil, so silent, until something was asked for
	for {
		select {
		case req := <-requests:
			if req.err != nil {
				return endOfStream(req.err)
			}
			if !asked.take(req.message, s.log) {
				continue
			}
		case <-changed:
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err()
		}
		m, next, err := s.holders(ctx)
		if err != nil {
			return err
		}
		changed = next
		response, err := asked.answer(m)
		if err == nil && response != nil {
			err = stream.Send(response)
		}
		if err != nil {
			return err
		}
	}
}

// worldRequest is what one state-of-the-world stream asks for.
type worldRequest struct {
	names   []string
	version string // of what was sent last; empty when the next answer must go out
	nonce   int
}

// take wants no answer to an acknowledgement, nor to a rejection, which the next
// change may heal.
func (w *worldRequest) take(req *discovery.DiscoveryRequest, log *slog.Logger) bool {
	if req.GetErrorDetail() != nil {
		log.Warn("Envoy rejected an identity", "code", req.GetErrorDetail().GetCode())
	}
	if req.GetResponseNonce() != "" && req.GetResponseNonce() != strconv.Itoa(w.nonce) {
		return false // it speaks of an answer that a later one has replaced
	}
	if w.nonce > 0 && slices.Equal(w.names, req.GetResourceNames()) {
		return false
	}
	w.names, w.version = req.GetResourceNames(), ""
	return true
}

func (w *worldRequest) answer(m material) (*discovery.DiscoveryResponse, error) {
	response, err := stateOfWorld(m, w.names)
	if err != nil || response.VersionInfo == w.version {
		return nil, err
	}
	w.nonce++
	w.version, response.Nonce = response.VersionInfo, strconv.Itoa(w.nonce)
	return response, nil
}

func stateOfWorld(m material, names []string) (*discovery.DiscoveryResponse, error) {
	secrets, err := m.secrets(names)
	if err != nil {
		return nil, err
	}
	out := &discovery.DiscoveryResponse{TypeUrl: secretType}
	versions := sha256.New()
	for _, secret := range secrets {
		packed, version, err := pack(secret)
		if err != nil {
			return nil, err
		}
		versions.Write([]byte(version))
		out.Resources = append(out.Resources, packed)
	}
	out.VersionInfo = hex.EncodeToString(versions.Sum(nil)[:8])
	return out, nil
}

// deltaRequest is what one delta stream has subscribed to.
type deltaRequest struct {
	sent  map[string]string // subscribed name -> version the client has; empty when it has none
	nonce int
}

func (d *deltaRequest) take(req *discovery.DeltaDiscoveryRequest, log *slog.Logger) bool {
	if req.GetErrorDetail() != nil {
		log.Warn("Envoy rejected an identity", "code", req.GetErrorDetail().GetCode())
	}
	for _, name := range req.GetResourceNamesUnsubscribe() {
		delete(d.sent, name)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		d.sent[name] = req.GetInitialResourceVersions()[name]
	}
	return len(req.GetResourceNamesSubscribe()) > 0
}

func (d *deltaRequest) answer(m material) (*discovery.DeltaDiscoveryResponse, error) {
	out := &discovery.DeltaDiscoveryResponse{TypeUrl: secretType}
	for name, had := range d.sent {
		secret, err := m.secret(name)
		if err != nil {
			return nil, err
		}
		packed, version, err := pack(secret)
		if err != nil {
			return nil, err
		}
		if version == had {
			continue
		}
		d.sent[name] = version
		out.Resources = append(out.Resources, &discovery.Resource{Name: name, Version: version, Resource: packed})
	}
	if len(out.Resources) == 0 {
		return nil, nil
	}
	d.nonce++
	out.Nonce = strconv.Itoa(d.nonce)
	return out, nil
}

// pack encodes a secret; its version is a digest, so that equal is equal.
func pack(secret *tlsv3.Secret) (*anypb.Any, string, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(secret)
	if err != nil {
		return nil, "", status.Error(codes.Internal, "the secret cannot be encoded")
	}
	sum := sha256.Sum256(data)
	return &anypb.Any{TypeUrl: secretType, Value: data}, hex.EncodeToString(sum[:8]), nil
}

type received[T any] struct {
	message T
	err     error
}

// receive turns a stream's Recv into a channel. It ends with the stream, after
// the error that says so.
func receive[T any](ctx context.Context, recv func() (T, error)) <-chan received[T] {
	out := make(chan received[T])
	go func() {
		for {
			message, err := recv()
			select {
			case out <- received[T]{message, err}:
			case <-ctx.Done():
				// Nobody may be reading any more.
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return out
}

func endOfStream(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

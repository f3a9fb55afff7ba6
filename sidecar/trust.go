package sidecar

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/exeat-dev/exeat/identity"
)

const (
	// interceptionSecret is the control plane's name for this instance's own CA.
	interceptionSecret = "interception-ca"
	secretType         = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// trust follows the certificate of this instance's interception CA. Only the
// control plane has its key.
type trust struct {
	conn     *grpc.ClientConn
	instance identity.ID
	log      *slog.Logger
}

func newTrust(servers []endpoint, src identity.X509Source, serverID, instance identity.ID, log *slog.Logger) (*trust, error) {
	// The first that can be reached is used; after a failure all are tried again.
	list := manual.NewBuilderWithScheme("exeat")
	var state resolver.State
	for _, s := range servers {
		state.Addresses = append(state.Addresses, resolver.Address{Addr: s.String()})
	}
	list.InitialState(state)
	conn, err := grpc.NewClient("exeat:///control", grpc.WithResolvers(list),
		grpc.WithTransportCredentials(credentials.NewTLS(identity.ClientTLS(src, serverID))),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
	if err != nil {
		return nil, fmt.Errorf("sidecar: %w", err)
	}
	return &trust{conn: conn, instance: instance, log: log}, nil
}

// follow calls changed with the CA's certificates, at first and whenever they
// are others, until ctx ends. What changed refuses is told to the server.
func (t *trust) follow(ctx context.Context, changed func(ca []byte) error) {
	defer func() { _ = t.conn.Close() }()
	for pause := time.Duration(0); ctx.Err() == nil; {
		err := t.stream(ctx, func(ca []byte) error {
			pause = 0
			return changed(ca)
		})
		pause = nextPause(pause)
		if ctx.Err() == nil {
			t.log.Warn("the interception CA's certificate is not followed for now", "error", err, "pause_ms", pause.Milliseconds())
		}
		sleep(ctx, pause)
	}
}

// stream is one connection's worth of following.
func (t *trust) stream(ctx context.Context, changed func(ca []byte) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := secretv3.NewSecretDiscoveryServiceClient(t.conn).DeltaSecrets(ctx)
	if err != nil {
		return err
	}
	request := &discoveryv3.DeltaDiscoveryRequest{
		Node:                   &corev3.Node{Id: t.instance.String(), Cluster: "exeat-sidecar"},
		TypeUrl:                secretType,
		ResourceNamesSubscribe: []string{interceptionSecret},
	}
	for {
		if err := stream.Send(request); err != nil {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		request = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: response.GetNonce()}
		if err := take(response, changed); err != nil {
			t.log.Error("the interception CA's certificate was refused", "error", err)
			request.ErrorDetail = &statuspb.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
		}
	}
}

// take looks for our secret. One that is removed stays in the bundle: the agent's
// programs have read it already.
func take(response *discoveryv3.DeltaDiscoveryResponse, changed func(ca []byte) error) error {
	for _, resource := range response.GetResources() {
		var secret tlsv3.Secret
		if err := resource.GetResource().UnmarshalTo(&secret); err != nil {
			return errors.New("the secret cannot be read")
		}
		if secret.GetName() != interceptionSecret {
			continue
		}
		ca := secret.GetValidationContext().GetTrustedCa().GetInlineBytes()
		if len(ca) == 0 {
			ca = []byte(secret.GetValidationContext().GetTrustedCa().GetInlineString())
		}
		if err := onlyCAs(ca); err != nil {
			return err
		}
		if err := changed(ca); err != nil {
			return err
		}
	}
	return nil
}

// onlyCAs makes sure that what the agent will trust is certificates of
// authorities, at least one, and nothing else.
func onlyCAs(text []byte) error {
	certs := 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if block.Type != "CERTIFICATE" || err != nil || !cert.IsCA {
			return errors.New("it holds something that is no certificate of an authority")
		}
		certs++
	}
	if certs == 0 {
		return errors.New("it holds no certificate")
	}
	return nil
}

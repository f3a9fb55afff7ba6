package xds

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

// secretServer is SDS beside ADS: Envoy asks here for certificates by the name
// that a client sends, exeat-sidecar for the CA that its agent is to trust.
type secretServer struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	*Server
}

func (s *secretServer) DeltaSecrets(stream secretv3.SecretDiscoveryService_DeltaSecretsServer) error {
	ctx := stream.Context()
	instance, _, err := s.caller(ctx)
	if err != nil {
		return err
	}
	v, release, err := s.vaults.hold(ctx, instance)
	if err != nil {
		return err
	}
	defer release()
	source := newOnDemand(v)
	defer source.close()
	sess := newSession(source, stream.Send)
	renew := time.NewTimer(s.untilWindow())
	defer renew.Stop()
	requests := receiving(ctx, stream.Recv)
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-renew.C:
			sess.secretsDue = true
			renew.Reset(s.untilWindow())
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if req.GetTypeUrl() == "" {
				req.TypeUrl = typeURLs[secrets]
			}
			if err := sess.receive(req); err != nil {
				return err
			}
		}
		if err := sess.sendSecrets(); err != nil {
			return err
		}
	}
}

// StreamSecrets is the state-of-the-world form, for clients without delta.
func (s *secretServer) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	ctx := stream.Context()
	instance, _, err := s.caller(ctx)
	if err != nil {
		return err
	}
	v, release, err := s.vaults.hold(ctx, instance)
	if err != nil {
		return err
	}
	defer release()
	source := newOnDemand(v)
	defer source.close()
	return s.streamSecrets(ctx, source, stream.Send, receiving(ctx, stream.Recv))
}

func (s *secretServer) streamSecrets(ctx context.Context, source secretSource,
	send func(*discoveryv3.DiscoveryResponse) error, requests <-chan *discoveryv3.DiscoveryRequest) error {
	renew := time.NewTimer(s.untilWindow())
	defer renew.Stop()
	var names []string
	var sent string
	for nonce := 1; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-renew.C:
			renew.Reset(s.untilWindow())
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if len(req.GetResourceNames()) > maxOnDemand {
				return status.Error(codes.ResourceExhausted, "too many resource names")
			}
			names = req.GetResourceNames()
		}
		out, err := secretsNow(source, names)
		if err != nil {
			return err
		}
		// An acknowledgement asks for the same again; it is answered by silence.
		if what := strings.Join(names, "\x00") + "\x00" + out.GetVersionInfo(); what != sent && len(names) > 0 {
			out.Nonce = strconv.Itoa(nonce)
			if err := send(out); err != nil {
				return err
			}
			nonce, sent = nonce+1, what
		}
	}
}

// secretsNow answers with the named secrets; names without one are left out.
func secretsNow(source secretSource, names []string) (*discoveryv3.DiscoveryResponse, error) {
	var versions []string
	var bodies []*anypb.Any
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		version := source.version(name)
		if version == "" {
			continue
		}
		res, err := source.secret(name)
		if err != nil {
			return nil, err
		}
		versions, bodies = append(versions, version), append(bodies, res.body)
	}
	return &discoveryv3.DiscoveryResponse{
		TypeUrl: typeURLs[secrets], Resources: bodies, VersionInfo: versionOf([]byte(strings.Join(versions, "\x00"))),
	}, nil
}

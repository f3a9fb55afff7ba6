package identity

import (
	"context"
	"crypto/tls"
	"errors"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// X509Source is an SVID and the roots to verify others by, both as they are now:
// a Source, a Workload, or go-spiffe's workloadapi.X509Source.
type X509Source interface {
	x509svid.Source
	x509bundle.Source
}

// ErrNoPeer says that a connection has no verified SPIFFE ID at its other end.
var ErrNoPeer = errors.New("identity: the peer has no SPIFFE ID")

// ServerTLS is for servers of HTTP/1.1, HTTP/2 and gRPC: TLS 1.3 (RFC 8446), an
// SVID that is fresh for each handshake, and clients verified by theirs. With
// optional a client may show no certificate; one that it shows is verified all
// the same. Ask PeerID who it is.
func ServerTLS(src X509Source, optional bool) *tls.Config {
	config := newTLS()
	config.GetCertificate = tlsconfig.GetCertificate(src)
	config.ClientAuth = tls.RequireAnyClientCert // verified below, by SPIFFE's rules
	if optional {
		config.ClientAuth = tls.RequestClientCert
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		if optional && len(state.PeerCertificates) == 0 {
			return nil
		}
		_, err := verifyPeer(state, src)
		return err
	}
	return config
}

// ClientTLS is for clients of exactly one server, by its SPIFFE ID; the name that
// was dialled does not matter.
func ClientTLS(src X509Source, server ID) *tls.Config {
	config := newTLS()
	config.GetClientCertificate = tlsconfig.GetClientCertificate(src)
	config.InsecureSkipVerify = true // host names say nothing here: VerifyConnection does it by SPIFFE ID
	config.VerifyConnection = func(state tls.ConnectionState) error {
		id, err := verifyPeer(state, src)
		if err != nil {
			return err
		}
		if server.IsZero() || id != server {
			return errors.New("identity: the server has another SPIFFE ID than it should")
		}
		return nil
	}
	return config
}

func newTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: []string{"h2", "http/1.1"},
		// A resumed session would go on with an SVID that may have been renewed.
		SessionTicketsDisabled: true,
	}
}

// verifyPeer is called from VerifyConnection, which unlike VerifyPeerCertificate
// runs on every handshake.
func verifyPeer(state tls.ConnectionState, roots x509bundle.Source) (ID, error) {
	id, _, err := x509svid.Verify(state.PeerCertificates, roots)
	return id, err
}

// PeerID is who made this gRPC call, from its connection's certificate. The
// server's credentials must be made from ServerTLS: that is what verified it.
func PeerID(ctx context.Context) (ID, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ID{}, ErrNoPeer
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return ID{}, ErrNoPeer
	}
	return PeerIDFromState(&info.State)
}

// PeerIDFromState is the same for a connection of ServerTLS, for instance that of
// an http.Request. nil and a client without a certificate give ErrNoPeer.
func PeerIDFromState(state *tls.ConnectionState) (ID, error) {
	if state == nil || !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return ID{}, ErrNoPeer
	}
	id, err := x509svid.IDFromCert(state.PeerCertificates[0])
	if err != nil || id.Path() == "" {
		return ID{}, ErrNoPeer
	}
	return id, nil
}

package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// Source is one identity of the authority's own process. It is safe for
// concurrent use, and each question may be answered with a newer SVID: it is
// renewed when more than half of its life is over.
type Source struct {
	authority *Authority
	id        ID
	dns       []string
	ips       []net.IP

	mu    sync.Mutex
	svid  *x509svid.SVID
	renew time.Time
}

// GetX509SVID gives an SVID with at least half of its life left.
func (s *Source) GetX509SVID() (*x509svid.SVID, error) { return s.renewed(nil) }

// GetX509BundleForTrustDomain gives the roots of the authority's own trust
// domain, and an error for any other.
func (s *Source) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return s.authority.bundle.GetX509BundleForTrustDomain(td)
}

// renewed gives the current SVID, a new one when it is due. When it made one, it
// has due called once the next is.
func (s *Source) renewed(due func()) (*x509svid.SVID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.authority.clock()
	if s.svid != nil && now.Before(s.renew) && !now.Before(s.svid.Certificates[0].NotBefore) {
		return s.svid, nil
	}
	svid, err := s.authority.issue(s, now)
	if err != nil {
		return nil, err
	}
	s.svid, s.renew = svid, now.Add(s.authority.ttl/2)
	if due != nil {
		time.AfterFunc(s.authority.ttl/2, due)
	}
	return svid, nil
}

// issue signs an X.509-SVID for a new key (X509-SVID sections 2 to 4: one URI
// name, not an authority, for signatures only, for both ends of a connection).
func (a *Authority) issue(s *Source, now time.Time) (*x509svid.SVID, error) {
	if !s.id.MemberOf(a.td) || s.id.Path() == "" {
		return nil, errors.New("identity: an SVID must be of a workload of this trust domain")
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, a.template(s, serial, now), a.root.certs[0], key.Public(), a.root.key)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	a.log.Debug("svid issued", "spiffe_id", s.id.String(), "serial", serial.Text(16), "expires", cert.NotAfter)
	return &x509svid.SVID{ID: s.id, Certificates: []*x509.Certificate{cert}, PrivateKey: key}, nil
}

func (a *Authority) template(s *Source, serial *big.Int, now time.Time) *x509.Certificate {
	end := now.Add(a.ttl)
	if last := a.root.certs[0].NotAfter; end.After(last) {
		end = last // nothing outlives what vouches for it
	}
	return &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Exeat"}},
		URIs:                  spiffeURI(s.id),
		DNSNames:              s.dns,
		IPAddresses:           s.ips,
		NotBefore:             now.Add(-backdate),
		NotAfter:              end,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
}

func spiffeURI(id ID) []*url.URL { return []*url.URL{id.URL()} }

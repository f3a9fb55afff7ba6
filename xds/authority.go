package xds

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

const (
	caLifetime = 365 * 24 * time.Hour
	// caRenewal is how long before its end a CA is replaced, when its instance
	// next connects: a leaf never outlives its CA.
	caRenewal = 60 * 24 * time.Hour
	// leafWindow is how often leaves are renewed. Each is valid for one window
	// more on either side, so that clocks need not agree.
	leafWindow = 12 * time.Hour
)

// authority is the interception CA of one instance. An agent trusts only its own
// sidecar's, so what leaks from one place opens nothing in another.
type authority struct {
	cert    *x509.Certificate
	certPEM []byte
	key     *ecdsa.PrivateKey
	// fingerprint makes the version of what this CA signs.
	fingerprint string
}

// newAuthority makes a CA: ECDSA P-256, for server certificates only (RFC 5280
// section 4.2.1.12), and for no CA below it. Its names cannot be constrained: the
// default chain answers for any host that an agent may ask for.
func newAuthority(instance policy.Instance, now time.Time) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("interception CA: key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256([]byte(instance))
	template := &x509.Certificate{
		SerialNumber: serial,
		// A common name of at most 64 characters; the instance itself may be longer.
		Subject:               pkix.Name{Organization: []string{"Exeat"}, CommonName: "Exeat interception " + hex.EncodeToString(id[:8])},
		NotBefore:             now.Add(-time.Hour).UTC(),
		NotAfter:              now.Add(caLifetime).UTC(),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("interception CA: %w", err)
	}
	return authorityOf(der, key)
}

func authorityOf(der []byte, key *ecdsa.PrivateKey) (*authority, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("interception CA: %w", err)
	}
	pub, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || !pub.Equal(key.Public()) {
		return nil, errors.New("interception CA: certificate and key do not belong together")
	}
	sum := sha256.Sum256(der)
	return &authority{
		cert:        cert,
		certPEM:     pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:         key,
		fingerprint: hex.EncodeToString(sum[:]),
	}, nil
}

// stale reports whether a successor is due.
func (a *authority) stale(now time.Time) bool { return now.After(a.cert.NotAfter.Add(-caRenewal)) }

// marshal gives certificate and key as PEM: it is only ever kept sealed.
func (a *authority) marshal() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		return nil, fmt.Errorf("interception CA: %w", err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), a.certPEM...), nil
}

func parseAuthority(b []byte) (*authority, error) {
	keyBlock, rest := pem.Decode(b)
	certBlock, _ := pem.Decode(rest)
	if keyBlock == nil || certBlock == nil {
		return nil, errors.New("interception CA: not a key and a certificate")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, errors.New("interception CA: unreadable key")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("interception CA: not an ECDSA key")
	}
	return authorityOf(certBlock.Bytes, key)
}

// leaf is a server certificate for one host.
type leaf struct{ certPEM, keyPEM []byte }

// leaf signs one for the given host, which must be normalised, and window.
func (a *authority) leaf(host string, window int64) (*leaf, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("leaf: key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	start := time.Unix(window*int64(leafWindow/time.Second), 0).UTC()
	end := start.Add(2 * leafWindow)
	if end.After(a.cert.NotAfter) {
		end = a.cert.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{Organization: []string{"Exeat"}},
		DNSNames:     []string{host}, // and one only: clients share a connection between the names of a certificate
		NotBefore:    start.Add(-leafWindow),
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("leaf: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("leaf: %w", err)
	}
	return &leaf{
		certPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		keyPEM:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}

// newSerial gives 127 random bits (RFC 5280 section 4.1.2.2 allows 20 octets).
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return n, nil
}

// windowAt numbers the window that a time falls into.
func windowAt(now time.Time) int64 { return now.Unix() / int64(leafWindow/time.Second) }

// nextWindow is when the next one begins.
func nextWindow(now time.Time) time.Time {
	return time.Unix((windowAt(now)+1)*int64(leafWindow/time.Second), 0)
}

package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	// rootFile holds the signing key, its certificate, and after these any
	// further roots that the bundle should carry. One file, so that key and
	// certificate can never be of two creations.
	rootFile = "authority.pem"
	rootLife = 10 * 365 * 24 * time.Hour
	// backdate covers clocks that are a little behind the authority's.
	backdate = 10 * time.Second
)

// root is what signs: its own certificate is the first of certs.
type root struct {
	key   crypto.Signer
	certs []*x509.Certificate
}

// openRoot loads the root of dir, or makes one when dir has none.
func openRoot(dir string, td spiffeid.TrustDomain, now time.Time) (root, error) {
	if err := privateDir(dir); err != nil {
		return root{}, err
	}
	path := filepath.Join(dir, rootFile)
	switch _, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		if err := createRoot(path, td, now); err != nil {
			return root{}, fmt.Errorf("identity: cannot create the trust domain's root: %w", err)
		}
	case err != nil:
		return root{}, fmt.Errorf("identity: %w", err)
	}
	r, err := loadRoot(path)
	if err != nil {
		return root{}, err
	}
	return r, r.check(td, now)
}

// privateDir makes dir with mode 0700, and refuses one that others can enter.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("identity: %s must be a folder of mode 0700, it is %v; run chmod 700 on it", dir, info.Mode())
	}
	return nil
}

// createRoot writes a new key and its certificate. The file appears whole or
// not at all: a half written root would be a trust domain nobody can enter.
func createRoot(path string, td spiffeid.TrustDomain, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := selfSign(key, td, now)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	return writeOnce(path, append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...))
}

// selfSign makes the root certificate. As X509-SVID section 4.1 asks of a
// signing certificate, its SPIFFE ID is the trust domain, without a path.
func selfSign(key *ecdsa.PrivateKey, td spiffeid.TrustDomain, now time.Time) ([]byte, error) {
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Exeat"}, CommonName: td.Name()},
		URIs:                  spiffeURI(td.ID()),
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(rootLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // it signs SVIDs, never another authority
	}
	return x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// writeOnce creates path with mode 0600, and fails when it exists by now: the
// link refuses to replace what another process made in the meantime.
func writeOnce(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // 0600 by itself
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // the link keeps what is good
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Link(f.Name(), path)
}

func loadRoot(path string) (root, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return root{}, fmt.Errorf("identity: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return root{}, fmt.Errorf("identity: %s holds a key and must be a file of mode 0600, it is %v; run chmod 600 on it", path, info.Mode())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return root{}, fmt.Errorf("identity: %w", err)
	}
	r, err := parseRoot(text)
	if err != nil {
		return root{}, fmt.Errorf("identity: %s: %w", path, err)
	}
	return r, nil
}

func parseRoot(text []byte) (r root, err error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "PRIVATE KEY":
			var key any
			if key, err = x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
				return root{}, errors.New("the private key cannot be read")
			}
			r.key, _ = key.(crypto.Signer)
		case "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return root{}, fmt.Errorf("a certificate cannot be read: %w", err)
			}
			r.certs = append(r.certs, cert)
		}
	}
	return r, nil
}

// check refuses a root that cannot sign for this trust domain now.
func (r root) check(td spiffeid.TrustDomain, now time.Time) error {
	if r.key == nil || len(r.certs) == 0 {
		return errors.New("identity: the authority's file needs a private key and its certificate")
	}
	own := r.certs[0]
	public, ok := r.key.Public().(*ecdsa.PublicKey)
	if !ok || !public.Equal(own.PublicKey) || !own.IsCA {
		return errors.New("identity: the authority's key and first certificate do not belong together")
	}
	if len(own.URIs) != 1 || own.URIs[0].String() != td.IDString() {
		return fmt.Errorf("identity: this authority was created for another trust domain than %s; a trust domain is fixed when its folder is made", td.Name())
	}
	if now.Before(own.NotBefore) || !now.Before(own.NotAfter) {
		return errors.New("identity: the authority's certificate is not valid now; check the clock, or start with a new folder")
	}
	return nil
}

package sidecar

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// Names of the files that the agent's programs read.
const (
	bundleName = "exeat-bundle.pem"
	caName     = "exeat-ca.pem"
	storeName  = "exeat-truststore.jks"
)

// bundle is the set of files by which an agent's programs trust the sidecar.
type bundle struct {
	dir   string
	clock func() time.Time
	log   *slog.Logger
}

func (b bundle) path() string   { return filepath.Join(b.dir, bundleName) }
func (b bundle) caPath() string { return filepath.Join(b.dir, caName) }
func (b bundle) store() string  { return filepath.Join(b.dir, storeName) }

// write puts the system's roots and the CA into the files. Each is replaced
// whole: a program that starts meanwhile reads the old or the new one.
func (b bundle) write(ca []byte) error {
	roots := systemRoots()
	if roots == nil {
		b.log.Warn("no system roots were found: the agent will trust the sidecar's CA alone")
	}
	all := append(append(bytes.Clone(roots), '\n'), ca...)
	if same(b.path(), all) && same(b.caPath(), ca) {
		return nil
	}
	// The CA alone comes last: it tells that the others are of its kind.
	return errors.Join(
		replaceFile(b.path(), all, 0o644),
		replaceFile(b.store(), javaTrustStore(all, b.clock()), 0o644),
		replaceFile(b.caPath(), ca, 0o644))
}

func same(path string, want []byte) bool {
	have, err := os.ReadFile(path)
	return err == nil && bytes.Equal(have, want)
}

// systemRoots reads the first bundle that is where systems keep them: Debian and
// Alpine, Fedora and RHEL, openSUSE, macOS and the BSDs.
func systemRoots() []byte {
	for _, path := range []string{
		"/etc/ssl/certs/ca-certificates.crt",
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
		"/etc/pki/tls/certs/ca-bundle.crt",
		"/etc/ssl/ca-bundle.pem",
		"/etc/ssl/cert.pem",
	} {
		if text, err := os.ReadFile(path); err == nil {
			return text
		}
	}
	return nil
}

// replaceFile writes a file of this mode, whole or not at all.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already, when all went well
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

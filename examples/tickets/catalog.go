// Package tickets is the example that Exeat is shown with: a catalog, a ticket
// service (package service) and a program that serves it (cmd/tickets-service).
package tickets

import (
	"embed"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// files is the catalog as it is in the folder catalog.
//
//go:embed catalog/*.yaml
var files embed.FS

// What the written catalog says in place of what WriteCatalog is given.
const (
	exampleAddress = "127.0.0.1:8443"
	// CAFile is the file in the catalog that holds the service's CA.
	CAFile = "tickets-ca.pem"
)

// WriteCatalog writes the example catalog into dir, which it makes if need be,
// for a ticket service at address (IP:port) whose certificate caPEM vouches for.
func WriteCatalog(dir, address string, caPEM []byte) error {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return errors.New("the ticket service's address: want IP:port")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, CAFile), caPEM, 0o644); err != nil {
		return err
	}
	names, err := fs.Glob(files, "catalog/*.yaml")
	if err != nil {
		return err
	}
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		there := strings.ReplaceAll(string(text), exampleAddress, address)
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(name)), []byte(there), 0o644); err != nil {
			return err
		}
	}
	return nil
}

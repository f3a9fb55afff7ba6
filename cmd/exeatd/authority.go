package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/exeat-dev/exeat/catalog"
	"github.com/exeat-dev/exeat/identity"
)

// openAuthority opens the embedded authority. Its trust domain is fixed at the
// first start: by the flag, else the catalog's own.
func openAuthority(o devOptions, log *slog.Logger) (*identity.Authority, string, error) {
	dir := filepath.Join(o.data, "authority")
	if err := privateDir(dir); err != nil {
		return nil, "", err
	}
	name := filepath.Join(dir, "trust-domain")
	td, err := readTrustDomain(name)
	switch {
	case err != nil:
	case td == "":
		td, err = firstTrustDomain(o)
	case o.trustDomain != "" && o.trustDomain != td:
		err = fmt.Errorf("--trust-domain %s: %s was made for %s; use another data folder for another trust domain", o.trustDomain, o.data, td)
	}
	if err != nil {
		return nil, "", err
	}
	a, err := identity.OpenAuthority(identity.AuthorityConfig{Dir: dir, TrustDomain: td, SVIDTTL: o.svidTTL, Log: log})
	if err != nil {
		return nil, "", err
	}
	return a, td, os.WriteFile(name, []byte(td+"\n"), 0o600)
}

func readTrustDomain(name string) (string, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// firstTrustDomain is the flag's, else that of the first agent of the catalog.
// It stays for good, so it is not guessed while the catalog cannot be read.
func firstTrustDomain(o devOptions) (string, error) {
	if o.trustDomain != "" {
		return o.trustDomain, nil
	}
	set, errs := catalog.Load(o.catalog, o.secrets)
	if len(errs) > 0 {
		return "", fmt.Errorf("the first start takes the trust domain from the catalog, and %s cannot be loaded; mend it, or say --trust-domain:\n%w", o.catalog, errs)
	}
	for _, a := range set.Agents {
		if id, err := identity.ParseID(a.Spec.SPIFFEID); err == nil {
			return id.TrustDomain().Name(), nil
		}
	}
	return "", fmt.Errorf("the first start takes the trust domain from the catalog, and %s has no agent; add one, or say --trust-domain", o.catalog)
}

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/identity"
)

// defaultTrustDomain is for a catalog that names none because it is broken.
const defaultTrustDomain = "exeat.local"

// openAuthority opens the embedded authority. Its trust domain is fixed at the
// first start: by the flag, else the catalog's own.
func openAuthority(o devOptions, set *v1alpha1.Set, log *slog.Logger) (*identity.Authority, string, error) {
	dir := filepath.Join(o.data, "authority")
	if err := privateDir(dir); err != nil {
		return nil, "", err
	}
	name := filepath.Join(dir, "trust-domain")
	td, err := readTrustDomain(name)
	if err != nil {
		return nil, "", err
	}
	switch {
	case td == "":
		td = firstTrustDomain(o.trustDomain, set)
	case o.trustDomain != "" && o.trustDomain != td:
		return nil, "", fmt.Errorf("--trust-domain %s: %s was made for %s; use another data folder for another trust domain", o.trustDomain, o.data, td)
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
func firstTrustDomain(flag string, set *v1alpha1.Set) string {
	if flag != "" {
		return flag
	}
	if set != nil {
		for _, a := range set.Agents {
			if id, err := identity.ParseID(a.Spec.SPIFFEID); err == nil {
				return id.TrustDomain().Name()
			}
		}
	}
	return defaultTrustDomain
}

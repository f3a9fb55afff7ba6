package identity_test

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/identity"
)

const domain = "example.org"

func mustID(t testing.TB, path string) identity.ID {
	t.Helper()
	id, err := identity.ParseID("spiffe://" + domain + path)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func open(t testing.TB, dir string, ttl time.Duration) *identity.Authority {
	t.Helper()
	a, err := identity.OpenAuthority(identity.AuthorityConfig{Dir: dir, TrustDomain: domain, SVIDTTL: ttl, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// folder is a private folder whose path is short enough for sockets.
func folder(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "exeat-id-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "d")
}

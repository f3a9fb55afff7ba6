package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/client"
)

func TestDevServesAndSaysWhere(t *testing.T) {
	t.Parallel()
	r := startDev(t)
	e := r.endpoints
	for name, u := range map[string]string{"api": e.API, "issuer": e.Issuer, "metrics": e.Metrics, "grpc": "grpc://" + e.GRPC} {
		parsed, err := url.Parse(u)
		if err != nil || parsed.Hostname() != "127.0.0.1" || parsed.Port() == "" || parsed.Port() == "0" || parsed.Path != "" {
			t.Errorf("%s is %q", name, u)
		}
	}
	if e.TrustDomain != "example.org" {
		t.Errorf("trust domain %q, want the catalog's", e.TrustDomain)
	}
	for _, name := range []string{e.CAFile, e.WorkloadSocket, e.LocalSocket} {
		if _, err := os.Stat(name); err != nil || !filepath.IsAbs(name) {
			t.Errorf("%q: %v", name, err)
		}
	}
	// The CA file is all that a verifier of tokens needs.
	discovery := struct {
		Issuer string `json:"issuer"`
		JWKS   string `json:"jwks_uri"`
	}{}
	fetch(t, e, e.Issuer+"/.well-known/openid-configuration", &discovery)
	keys := struct{ Keys []any }{}
	fetch(t, e, discovery.JWKS, &keys)
	if discovery.Issuer != e.Issuer || len(keys.Keys) == 0 {
		t.Errorf("discovery says %+v, with %d keys", discovery, len(keys.Keys))
	}
	for path, want := range map[string]string{
		"/livez": "ok\n", "/readyz": "ok\n",
		"/readyz?verbose": "[+]audit ok\n[+]catalog ok (revision c_",
	} {
		if status, body := r.get(path, ""); status != http.StatusOK || !strings.HasPrefix(body, want) {
			t.Errorf("%s: %d %q, want %q", path, status, body, want)
		}
	}
}

func fetch(t *testing.T, e client.Endpoints, u string, into any) {
	t.Helper()
	pem, err := os.ReadFile(e.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, DisableKeepAlives: true}}
	resp, err := c.Get(u)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || json.Unmarshal(body, into) != nil {
		t.Fatalf("%s: %d %s %v", u, resp.StatusCode, body, err)
	}
}

// A folder that became broken is told in every place where one would look, and
// changes nothing else; mended, it is told nowhere.
func TestABrokenReloadShowsAndKeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	r := startDev(t)
	status := func() (string, string) {
		code, ready := r.get("/readyz?verbose", "")
		if code != http.StatusOK {
			t.Fatalf("not ready: %s", ready)
		}
		_, metrics := r.get("/metrics", "")
		return ready, metrics
	}
	before, _ := status()
	revision, _, _ := strings.Cut(before[strings.Index(before, "revision c_"):], ")")

	write(t, filepath.Join(r.catalog, "more.yaml"), "kind: Agnet\n")
	r.await("the broken folder", func() error {
		ready, metrics := status()
		if holds(ready, revision+"; the folder has changed but cannot be loaded", "more.yaml:1: kind: ") &&
			holds(metrics, "exeat_catalog_last_reload_success 0", "exeat_catalog_reload_failures_total 1") &&
			holds(r.log.String(), `"msg":"catalog not loaded: the last good one stays"`, "more.yaml:1: kind: ") {
			return nil
		}
		return errors.New(ready)
	})
	if err := os.Remove(filepath.Join(r.catalog, "more.yaml")); err != nil {
		t.Fatal(err)
	}
	r.await("the mended folder", func() error {
		ready, metrics := status()
		if !holds(ready, revision+")") || !holds(metrics, "exeat_catalog_last_reload_success 1") {
			return errors.New(ready)
		}
		return nil
	})
}

func TestASecondProcessOnTheDataFolderSaysSoAndStops(t *testing.T) {
	t.Parallel()
	r := startDev(t)
	err := exeatd(t.Context(), io.Discard, devArgs(r.catalog, r.data)...)
	if err == nil || !holds(err.Error(), r.data, "another process uses this data folder", "--data") {
		t.Errorf("got %v", err)
	}
	// It has not touched what the first one wrote.
	if now, err := client.ReadEndpoints(r.data); err != nil || now != r.endpoints {
		t.Errorf("endpoints %+v, %v", now, err)
	}
	if status, body := r.get("/readyz", ""); status != http.StatusOK {
		t.Errorf("the first one is not ready: %s", body)
	}
}

func TestItDrainsAndServesNoMore(t *testing.T) {
	t.Parallel()
	r := startDev(t)
	r.stop()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	if !holds(r.log.String(), `"msg":"drained"`) {
		t.Errorf("the log does not say so: %s", r.log)
	}
	if e, err := client.ReadEndpoints(r.data); err == nil {
		t.Errorf("endpoints are left: %+v", e)
	}
	for _, addr := range []string{r.endpoints.API, r.endpoints.Metrics, "grpc://" + r.endpoints.GRPC} {
		u, _ := url.Parse(addr)
		if c, err := net.Dial("tcp", u.Host); err == nil {
			c.Close()
			t.Errorf("%s still listens", addr)
		}
	}
}

func TestDevSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		catalog string
		flags   []string
		want    []string
	}{
		"an address of the network":   {smallCatalog, []string{"--api", "0.0.0.0:0"}, []string{"--api", "loopback", "127.0.0.1"}},
		"an address that is none":     {smallCatalog, []string{"--grpc", "here"}, []string{"--grpc", "HOST:PORT"}},
		"a way to sync that is none":  {smallCatalog, []string{"--audit-sync", "soon"}, []string{"--audit-sync", "process or disk"}},
		"a first catalog with errors": {"kind: Agnet\n", nil, []string{"trust domain", "--trust-domain", "all.yaml:1: kind:", "all.yaml:1: apiVersion:"}},
		"a first catalog of nobody":   {"", nil, []string{"no agent", "--trust-domain"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			catalogDir, data := folders(t, c.catalog)
			err := exeatd(t.Context(), io.Discard, devArgs(catalogDir, data, c.flags...)...)
			if err == nil || !holds(err.Error(), c.want...) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

// The trust domain is part of every identity that was given out.
func TestTheTrustDomainStays(t *testing.T) {
	t.Parallel()
	r := startDev(t)
	r.stop()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	err := exeatd(t.Context(), io.Discard, devArgs(r.catalog, r.data, "--trust-domain", "example.net")...)
	if err == nil || !holds(err.Error(), "example.net", "was made for example.org") {
		t.Errorf("got %v", err)
	}
}

func TestKeysThatOthersMayReadAreRefused(t *testing.T) {
	t.Parallel()
	r := startDev(t)
	r.stop()
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{".": 0o750, "keys/authz.key": 0o640, "keys/xds.key": 0o604} {
		path := filepath.Join(r.data, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := exeatd(t.Context(), io.Discard, devArgs(r.catalog, r.data)...); err == nil || !holds(err.Error(), path, "chmod") {
			t.Errorf("%s with mode %o: %v", name, mode, err)
		}
		if err := os.Chmod(path, info.Mode()); err != nil {
			t.Fatal(err)
		}
	}
}

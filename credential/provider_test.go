package credential

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/storetest"
)

// However the TTL, the grant and the clock lie, no token is asked for beyond
// the grant's end or the TTL, nor one that has expired already.
func TestNoTokenIsAskedForBeyondItsGrant(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		nanos := func(label string, most time.Duration) time.Duration {
			return time.Duration(rapid.Int64Range(0, int64(most)).Draw(t, label))
		}
		now := time.Unix(1_700_000_000, 0).Add(nanos("now", time.Hour))
		p := &jwtProvider{audience: "https://a", ttl: nanos("ttl", 24*time.Hour)}
		r := Request{Subject: "spiffe://a/b", Scope: map[string]string{"scope": "read"}, Now: now}
		r.Grant.Until = now.Add(nanos("left", 24*time.Hour) - time.Hour)
		a, err := p.Narrow(r)
		if err != nil {
			return
		}
		if a.Expires.After(r.Grant.Until) || a.Expires.After(now.Add(p.ttl)) || !a.Expires.After(now) || a.Expires.Nanosecond() != 0 {
			t.Fatalf("expires %v, now %v, ttl %v, until %v", a.Expires, now, p.ttl, r.Grant.Until)
		}
	})
}

func TestNothingAskedIsNotEverything(t *testing.T) {
	t.Parallel()
	for name, scope := range map[string]map[string]string{
		"no scope":           nil,
		"an empty scope":     {"scope": ""},
		"a blank scope":      {"scope": "  "},
		"an empty claim":     {"scope": "read", "ticket": ""},
		"the subject":        {"scope": "read", "sub": "spiffe://a/other"},
		"the audience":       {"aud": "https://other"},
		"the expiry":         {"exp": "9999999999"},
		"the grant":          {"exeat_grant": "g_other"},
		"the token's actor":  {"act": "x"},
		"the token's holder": {"cnf": "x"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			now := time.Now()
			p := &jwtProvider{audience: "https://a", ttl: time.Minute}
			r := Request{Subject: "spiffe://a/b", Scope: scope, Now: now}
			r.Grant.Until = now.Add(time.Hour)
			if a, err := p.Narrow(r); err == nil {
				t.Errorf("it asks for %v", a.Scope)
			}
		})
	}
}

func header(name, prefix, file string) *v1alpha1.StaticProvider {
	return &v1alpha1.StaticProvider{Header: &v1alpha1.StaticHeader{Name: name, Prefix: prefix, Value: v1alpha1.FileRef{File: file}}}
}

func TestAStandingSecretIsInjected(t *testing.T) {
	t.Parallel()
	basic := &v1alpha1.StaticProvider{Basic: &v1alpha1.StaticBasic{Username: "svc", Password: v1alpha1.FileRef{File: "key"}}}
	for name, c := range map[string]struct {
		spec        *v1alpha1.StaticProvider
		name, value string
	}{
		"a header":             {header("X-API-Key", "", "key"), "x-api-key", "hunter2"},
		"a header with prefix": {header("Authorization", "Token ", "key"), "authorization", "Token hunter2"},
		"basic":                {basic, "authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("svc:hunter2"))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldOn(t, storetest.Open(t), withStatic(c.spec))
			w.secret("key", "hunter2\n")
			m := w.manager(nil)
			w.run(m)
			g := w.grant()
			h := w.minted(g)
			got, err := m.Apply(t.Context(), h, &policy.Call{})
			if err != nil || len(got) != 1 || got[0].Name != c.name || got[0].Value.Expose() != c.value {
				t.Errorf("headers %v %v", got, err)
			}
			w.end(g)
			w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
			minted, revoked := w.events.of(g.ID, actionMinted), w.events.of(g.ID, actionRevoked)
			if len(minted) != 1 || minted[0].Outcome != outcomeInjected {
				t.Errorf("recorded %+v, want injected", minted)
			}
			if len(revoked) != 1 || revoked[0].Outcome != string(Unsupported) {
				t.Errorf("recorded %+v, want unsupported", revoked)
			}
		})
	}
}

func TestAMissingSecretSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, storetest.Open(t), withStatic(header("X-API-Key", "", "keys/upstream")))
	m := w.manager(nil)
	w.run(m)
	g := w.grant()
	w.until("a failure", func() bool { return m.Failure(g.ID) != "" })
	text := m.Failure(g.ID)
	for _, want := range []string{"tickets-jwt", "keys/upstream", "put the secret there"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q does not say %q", text, want)
		}
	}
	if strings.Contains(text, w.secrets) {
		t.Errorf("%q names a path of this machine", text)
	}
	elsewhere := NewFailures(w.store) // a process without a Manager says the same
	followed := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	go func() { followed <- elsewhere.Run(ctx) }()
	w.until("the same failure elsewhere", func() bool { return elsewhere.Failure(g.ID) == text })
	if err := os.Mkdir(filepath.Join(w.secrets, "keys"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.secret("keys/upstream", "hunter2")
	w.until("a credential", func() bool { w.advance(time.Second, m); return w.held(g).Credential != nil })
	w.until("no failure elsewhere", func() bool { return elsewhere.Failure(g.ID) == "" })
	stop()
	if err := <-followed; err != nil {
		t.Errorf("its end is an error: %v", err)
	}
	if n := len(w.events.of(g.ID, actionMinted)); n != 2 {
		t.Errorf("%d records, want one failure and one success", n)
	}
}

func TestASecretFileHoldsOneHeaderValue(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(outside, "key"), "hunter2")
	write(filepath.Join(root, "good"), "hunter2\r\n")
	write(filepath.Join(root, "empty"), "\n")
	write(filepath.Join(root, "lines"), "hunter2\nx-other: 1")
	write(filepath.Join(root, "nul"), "hunter2\x00")
	write(filepath.Join(root, "wide"), "hunter2\u202e")
	write(filepath.Join(root, "space"), " hunter2")
	write(filepath.Join(root, "long"), strings.Repeat("a", maxSecret+1))
	if err := os.Symlink("good", filepath.Join(root, "inside")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(outside, "key"), filepath.Join(root, "link")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"good", "inside"} {
		if text, err := readSecret(root, name); err != nil || text != "hunter2" {
			t.Errorf("%s: %q %v", name, text, err)
		}
	}
	for _, name := range []string{"empty", "lines", "nul", "wide", "space", "long", "link", "../key", filepath.Join(outside, "key"), "absent", "."} {
		text, err := readSecret(root, name)
		if err == nil || text != "" {
			t.Errorf("%s: read %q", name, text)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error holds the secret: %v", name, err)
		}
	}
	if _, err := readSecret("", "good"); err == nil {
		t.Error("read without a secrets root")
	}
}

func TestAnUnknownProviderMintsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manager(nil)
	for _, p := range []*v1alpha1.Provider{nil, {}} {
		if _, err := m.catalogProvider(p); err == nil {
			t.Error("a provider of no kind is accepted")
		}
	}
	alone := w.manager(func(c *Config) { c.Issuer = nil })
	if _, err := alone.catalogProvider(&storetest.Set().Providers[0]); err == nil {
		t.Error("a jwt provider without issuer is accepted")
	}
	if _, err := (&staticProvider{spec: &v1alpha1.StaticProvider{}}).Mint(context.Background(), Ask{}); err == nil {
		t.Error("a static provider of no form minted")
	}
}

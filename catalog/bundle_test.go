package catalog

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"
)

// signer is a key pair, the private half in PEM.
type signer struct {
	private string
	public  map[string]*keys.Config
}

func newSigner(t *testing.T, id string) signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]any{id: map[string]string{
		"algorithm": "ES256", "key": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
	}})
	if err != nil {
		t.Fatal(err)
	}
	list, err := BundleKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return signer{string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})), list}
}

// packed is a bundle of one module, signed if there is a signer.
func packed(t *testing.T, source string, by *signer, id string, data map[string]any) []byte {
	t.Helper()
	if data == nil {
		data = map[string]any{}
	}
	b := bundle.Bundle{Data: data, Modules: []bundle.ModuleFile{{
		URL: "/issue.rego", Path: "/issue.rego", Raw: []byte(source), Parsed: ast.MustParseModule(source),
	}}}
	b.Manifest.Init()
	if by != nil {
		if err := b.GenerateSignature(bundle.NewSigningConfig(by.private, "ES256", ""), id, false); err != nil {
			t.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := bundle.NewWriter(&out).Write(b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func fromFile(t *testing.T, content []byte, cfg BundleConfig) ([]file, Errors) {
	t.Helper()
	cfg.Source = filepath.Join(t.TempDir(), "bundle.tar.gz")
	if err := os.WriteFile(cfg.Source, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := NewBundle(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b.modules(t.Context())
}

func TestABundleIsTakenOnlyAsItWasSigned(t *testing.T) {
	t.Parallel()
	release, other := newSigner(t, "release"), newSigner(t, "release")
	signed := packed(t, allows, &release, "release", nil)
	for name, tc := range map[string]struct {
		content []byte
		cfg     BundleConfig
		refused string
	}{
		"signed, with its key":      {signed, BundleConfig{Keys: release.public}, ""},
		"unsigned, without keys":    {packed(t, allows, nil, "", nil), BundleConfig{}, ""},
		"unsigned, with keys":       {packed(t, allows, nil, "", nil), BundleConfig{Keys: release.public}, "missing .signatures.json"},
		"signed by another":         {packed(t, allows, &other, "release", nil), BundleConfig{Keys: release.public}, "refused"},
		"signed under another name": {packed(t, allows, &release, "else", nil), BundleConfig{Keys: release.public}, "refused"},
		"changed":                   {changed(t, signed), BundleConfig{Keys: release.public}, "refused"},
		"with data":                 {packed(t, allows, nil, "", map[string]any{"a": 1}), BundleConfig{}, "holds data"},
		"no bundle":                 {[]byte("nothing"), BundleConfig{}, "not a .tar.gz"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files, errs := fromFile(t, tc.content, tc.cfg)
			switch {
			case tc.refused == "" && (errs != nil || len(files) != 1 || files[0].name != "bundle/issue.rego" || string(files[0].text) != allows):
				t.Errorf("got %v, %v", files, errs)
			case tc.refused != "" && (len(files) > 0 || !strings.Contains(errs.Error(), tc.refused)):
				t.Errorf("got %v, %v; want %q", files, errs, tc.refused)
			}
		})
	}
}

// changed is a signed bundle with another policy under the old signature.
func changed(t *testing.T, signed []byte) []byte {
	t.Helper()
	b, err := bundle.NewReader(bytes.NewReader(signed)).WithSkipBundleVerification(true).Read()
	if err != nil {
		t.Fatal(err)
	}
	b.Modules[0].Raw = []byte(strings.Replace(allows, "true", "1 == 1", 1))
	var out bytes.Buffer
	if err := bundle.NewWriter(&out).Write(b); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestABundleThatIsAFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "issue.rego", allows, 0o644)
	write(t, dir, "issue_test.rego", "package x\n\ntest_x if true\n", 0o644)
	b, err := NewBundle(BundleConfig{Source: dir})
	if err != nil {
		t.Fatal(err)
	}
	files, errs := b.modules(t.Context())
	if errs != nil || len(files) != 1 || files[0].name != "bundle/issue.rego" {
		t.Errorf("got %v, %v", files, errs)
	}
	write(t, dir, "broken.rego", "package exeat.issue\n\nallow { true }\n", 0o644)
	if _, errs := b.modules(t.Context()); len(errs) == 0 || errs[0].Line != 3 {
		t.Errorf("got %v", errs)
	}
}

func TestABundleMustComeSafely(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{"": "want a folder", "http://policies.example.org/b.tar.gz": "use https"} {
		if _, err := NewBundle(BundleConfig{Source: source}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", source, err)
		}
	}
	if _, err := NewBundle(BundleConfig{Source: "http://policies.example.org/b.tar.gz", Keys: newSigner(t, "a").public}); err != nil {
		t.Errorf("http with keys: %v", err)
	}
	for _, text := range []string{"", "{}", "[]", `{"a": {"algorithm": "HS256", "key": "secret"}}`, `{"a": {"algorithm": "ES256", "private_key": "x"}}`, `{"a": {"algorithm": "RS256", "key": "-----BEGIN RSA PRIVATE KEY-----"}}`} {
		if list, err := BundleKeys([]byte(text)); err == nil {
			t.Errorf("%q: %v", text, list)
		}
	}
}

// served is an HTTPS server of one bundle, with ETags.
type served struct {
	*httptest.Server
	content       atomic.Pointer[[]byte]
	down          atomic.Bool
	full, unmoved atomic.Int32
}

func serve(t *testing.T, content []byte) *served {
	t.Helper()
	s := &served{}
	s.content.Store(&content)
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text := *s.content.Load()
		tag := `"` + string(rune('a'+len(text)%26)) + `"`
		switch {
		case s.down.Load():
			w.WriteHeader(http.StatusBadGateway)
		case r.Header.Get("If-None-Match") == tag:
			s.unmoved.Add(1)
			w.WriteHeader(http.StatusNotModified)
		default:
			s.full.Add(1)
			w.Header().Set("ETag", tag)
			_, _ = w.Write(text)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *served) ca() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
}

func TestABundleBehindAURL(t *testing.T) {
	t.Parallel()
	release := newSigner(t, "release")
	s := serve(t, packed(t, allows, &release, "release", nil))
	now := time.Unix(1_800_000_000, 0)
	b, err := NewBundle(BundleConfig{Source: s.URL + "/b.tar.gz?token=secret", CA: s.ca(), Keys: release.public, Clock: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	look := func(why, want string) {
		t.Helper()
		files, errs := b.modules(t.Context())
		if len(files) != 1 || !strings.Contains(string(files[0].text), want) || errs != nil {
			t.Errorf("%s: %v, %v", why, files, errs)
		}
		now = now.Add(31 * time.Second)
	}
	look("at first", "allow := true")
	now = now.Add(-31 * time.Second)
	look("before its time", "allow := true")
	look("unchanged", "allow := true")
	if s.full.Load() != 1 || s.unmoved.Load() != 1 {
		t.Errorf("%d downloads, %d not modified", s.full.Load(), s.unmoved.Load())
	}
	next := packed(t, allows+"\n# the next one, which is longer\nttl := \"1m\"\n", &release, "release", nil)
	s.content.Store(&next)
	look("changed", "ttl")
	s.down.Store(true)
	look("out of reach", "ttl")
	s.down.Store(false)
	bad := packed(t, allows+"# not signed at all\n", nil, "", nil)
	s.content.Store(&bad)
	if _, errs := b.modules(t.Context()); errs == nil || strings.Contains(errs.Error(), "secret") {
		t.Errorf("unsigned: %v", errs)
	}
	s.content.Store(&next)
	now = now.Add(31 * time.Second)
	look("good again", "ttl")
}

func TestABundleOutOfReachAtFirst(t *testing.T) {
	t.Parallel()
	s := serve(t, packed(t, allows, nil, "", nil))
	for name, b := range map[string]BundleConfig{"down": {Source: s.URL, CA: s.ca()}, "another CA": {Source: s.URL}} {
		s.down.Store(name == "down")
		bundle, err := NewBundle(b)
		if err != nil {
			t.Fatal(err)
		}
		if files, errs := bundle.modules(t.Context()); len(files) > 0 || errs == nil {
			t.Errorf("%s: %v, %v", name, files, errs)
		}
	}
}

// With a bundle the catalog's own policies have no say, and that is said.
func TestPoliciesComeFromOnePlace(t *testing.T) {
	t.Parallel()
	dir, from := goodFolder(t), t.TempDir()
	write(t, from, "call.rego", "package exeat.call\n\nallow := true\n", 0o644)
	b, err := NewBundle(BundleConfig{Source: from})
	if err != nil {
		t.Fatal(err)
	}
	l := load(readFolder(dir).withBundle(t.Context(), b), dir)
	if l.errs != nil || len(l.set.Policies) != 1 || l.set.Policies[0].Path != "bundle/call.rego" || !l.compiled.Policies().HasCall() {
		t.Errorf("got %+v, %v", l.set, l.errs)
	}
	write(t, dir, "policies/issue.rego", allows, 0o644)
	l = load(readFolder(dir).withBundle(t.Context(), b), dir)
	if !slices.ContainsFunc(l.errs, func(e Error) bool {
		return e.File == "policies/issue.rego" && strings.Contains(e.Message, "come from the bundle")
	}) {
		t.Errorf("got %v", l.errs)
	}
}

// A publisher brings a changed bundle into force, and keeps what is in force
// when a bundle is bad.
func TestAPublisherFollowsABundle(t *testing.T) {
	t.Parallel()
	from := t.TempDir()
	write(t, from, "call.rego", "package exeat.call\n\nallow := true\n", 0o644)
	b, err := NewBundle(BundleConfig{Source: from})
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPublisher(PublisherConfig{Dir: goodFolder(t), Policies: b, Store: &fakeStore{}, Interval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { p.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	first, err := p.Wait(t.Context(), func(s State) bool { return s.Revision != "" })
	if err != nil {
		t.Fatal(err)
	}
	write(t, from, "call.rego", "package exeat.call\n\nallow := fale\n", 0o644)
	bad, err := p.Wait(t.Context(), func(s State) bool { return s.Errors != nil })
	if err != nil || bad.Revision != first.Revision || bad.Errors[0].File != "bundle/call.rego" || bad.Errors[0].Line != 3 {
		t.Errorf("got %+v, %v", bad, err)
	}
	write(t, from, "call.rego", "package exeat.call\n\nallow := false\n", 0o644)
	if _, err := p.Wait(t.Context(), func(s State) bool { return s.Errors == nil && s.Revision != first.Revision }); err != nil {
		t.Error(err)
	}
}

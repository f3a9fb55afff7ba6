package catalog

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/bundle"
	"github.com/open-policy-agent/opa/v1/keys"

	"github.com/exeat-dev/exeat/policy/rego"
)

// BundleConfig says where policies come from, other than from the catalog's
// own folder.
type BundleConfig struct {
	// Source is a folder, a .tar.gz file, or an http(s) URL of one.
	Source string
	// Keys verify the bundle's signature, by their IDs. With any, a bundle that
	// is unsigned or signed by another is refused. http needs them.
	Keys map[string]*keys.Config
	// CA is PEM to trust for https besides nothing else; nil: system roots.
	CA []byte
	// Interval between looks at a URL; 30s when zero. Files are looked at with
	// the catalog's own.
	Interval time.Duration
	Clock    func() time.Time // nil: time.Now
	Log      *slog.Logger
}

// Bounds on a bundle, in bytes.
const (
	maxBundle         = 8 << 20  // as it comes
	maxBundleUnpacked = 32 << 20 // of all its files
)

// Bundle is a source of policies. One goroutine may ask it.
type Bundle struct {
	cfg    BundleConfig
	remote *remote // nil: a file or folder
	log    *slog.Logger
}

// NewBundle checks the configuration; it reads nothing yet.
func NewBundle(cfg BundleConfig) (*Bundle, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	b := &Bundle{cfg: cfg, log: cfg.Log}
	switch {
	case cfg.Source == "":
		return nil, errors.New("policy bundle: want a folder, a .tar.gz file or an http(s) URL")
	case strings.HasPrefix(cfg.Source, "http://") && len(cfg.Keys) == 0:
		return nil, errors.New("policy bundle: over http anybody on the way could change it; use https, or keys that verify its signature")
	case strings.HasPrefix(cfg.Source, "http://"), strings.HasPrefix(cfg.Source, "https://"):
		var err error
		b.remote, err = newRemote(cfg)
		return b, err
	}
	return b, nil
}

// BundleKeys reads keys in OPA's form: an object of key IDs, each with "key"
// (PEM) and "algorithm" (RFC 7518 section 3.1). Only public keys are taken:
// whoever verifies must not be able to sign.
func BundleKeys(text []byte) (map[string]*keys.Config, error) {
	if !json.Valid(text) {
		return nil, errors.New(`policy keys: not JSON; want {"ID": {"algorithm": "ES256", "key": "-----BEGIN PUBLIC KEY-----..."}}`)
	}
	list, err := keys.ParseKeysConfig(text)
	if err != nil {
		return nil, errors.New(`policy keys: want {"ID": {"algorithm": "ES256", "key": "-----BEGIN PUBLIC KEY-----..."}}`)
	}
	if len(list) == 0 {
		return nil, errors.New("policy keys: there are none; leave them out to take unsigned bundles")
	}
	for id, k := range list {
		if k == nil || k.Key == "" || k.PrivateKey != "" || strings.HasPrefix(k.Algorithm, "HS") || strings.Contains(k.Key, "PRIVATE KEY") {
			return nil, fmt.Errorf("policy keys: %q is not a public key; want one that can verify and not sign, such as of ES256 or RS256", id)
		}
	}
	return list, nil
}

// modules gives what the bundle holds now. Of a URL that cannot be reached it
// is what was there last: an edit of the catalog must not have to wait for it.
func (b *Bundle) modules(ctx context.Context) ([]file, Errors) {
	if b.remote != nil {
		return b.remote.modules(ctx, b.read)
	}
	return b.local()
}

// local reads a folder or a file. Nothing outside a folder is opened, whatever
// links say.
func (b *Bundle) local() ([]file, Errors) {
	info, err := os.Stat(b.cfg.Source)
	if err != nil {
		return nil, b.fail("the policy bundle " + why(err))
	}
	if !info.IsDir() {
		text, err := os.ReadFile(b.cfg.Source)
		if err != nil {
			return nil, b.fail("the policy bundle " + why(err))
		}
		return b.read(text)
	}
	root, err := os.OpenRoot(b.cfg.Source)
	if err != nil {
		return nil, b.fail("the policy bundle " + whyNoRoot(err))
	}
	defer func() { _ = root.Close() }() // nothing was written
	loader, err := bundle.NewFSLoader(root.FS())
	if err != nil {
		return nil, b.fail("the policy bundle " + why(err))
	}
	return b.unpack(loader)
}

// read reads a tarball.
func (b *Bundle) read(packed []byte) ([]file, Errors) {
	if len(packed) > maxBundle {
		return nil, b.fail(fmt.Sprintf("the policy bundle is larger than %d bytes", maxBundle))
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, b.fail("the policy bundle is not a .tar.gz file")
	}
	// OPA bounds each file; what small files unpack to together is bounded here.
	size, err := io.Copy(io.Discard, io.LimitReader(z, maxBundleUnpacked+1))
	if err != nil || size > maxBundleUnpacked {
		return nil, b.fail(fmt.Sprintf("the policy bundle is broken, or larger than %d bytes unpacked", maxBundleUnpacked))
	}
	return b.unpack(bundle.NewTarballLoader(bytes.NewReader(packed)))
}

// unpack verifies a bundle and gives its modules. What it may hold besides has
// no meaning here and is refused: nothing of it may be thought to be in force.
func (b *Bundle) unpack(loader bundle.DirectoryLoader) ([]file, Errors) {
	r := bundle.NewCustomReader(loader.WithSizeLimitBytes(maxBundle)).WithSizeLimitBytes(maxBundle).
		WithRegoVersion(ast.RegoV1).WithCapabilities(rego.Capabilities())
	if len(b.cfg.Keys) > 0 {
		r = r.WithBundleVerificationConfig(bundle.NewVerificationConfig(b.cfg.Keys, "", "", nil))
	} else {
		r = r.WithSkipBundleVerification(true)
	}
	got, err := r.Read()
	if err != nil {
		var broken ast.Errors
		if errors.As(err, &broken) {
			return nil, PolicyErrors(rego.ProblemsOf(b.cfg.Source, broken))
		}
		return nil, b.fail("the policy bundle is refused: " + err.Error())
	}
	switch {
	case got.Type() != bundle.SnapshotBundleType:
		return nil, b.fail("the policy bundle is a delta; want a whole one")
	case len(got.Data) > 0:
		return nil, b.fail("the policy bundle holds data; write what policies need to know as a rule")
	case len(got.WasmModules) > 0, len(got.PlanModules) > 0, len(got.Wasm) > 0:
		return nil, b.fail("the policy bundle holds compiled policies; want Rego")
	}
	var files []file
	for _, m := range got.Modules {
		if name := strings.TrimPrefix(m.Path, "/"); !strings.HasSuffix(name, rego.TestSuffix) {
			files = append(files, file{"bundle/" + name, m.Raw})
		}
	}
	if len(files) == 0 {
		return nil, b.fail("the policy bundle holds no policy")
	}
	return files, nil
}

func (b *Bundle) fail(message string) Errors {
	return Errors{{File: named(b.cfg.Source), Message: message}}
}

// named is a source as errors name it: of a URL without what may be secret.
func named(source string) string {
	u, err := url.Parse(source)
	if err != nil || u.Scheme == "" {
		return source
	}
	return u.Scheme + "://" + u.Host + u.Path
}

// withBundle takes the policies of a bundle for the folder's own.
func (f folder) withBundle(ctx context.Context, b *Bundle) folder {
	if b == nil {
		return f
	}
	for _, own := range f.policies {
		f = f.fail(own.name, "policies come from the bundle; move it there, or leave the bundle out")
	}
	files, errs := b.modules(ctx)
	f.policies, f.errs = files, append(f.errs, errs...)
	return f
}

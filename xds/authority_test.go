package xds

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/exeat-dev/exeat/policy"
)

func poolOf(t *testing.T, pem []byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate")
	}
	return pool
}

// verify checks a leaf as a client would, and that its key is its own.
func verify(t *testing.T, roots *x509.CertPool, c *tlsv3.TlsCertificate, host string, now time.Time) *x509.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(c.GetCertificateChain().GetInlineBytes(), c.GetPrivateKey().GetInlineBytes())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{DNSName: host, Roots: roots, CurrentTime: now}); err != nil {
		t.Fatal(err)
	}
	return leaf
}

func testKeeper(t *testing.T, b bucket, key byte, now func() time.Time) *keeper {
	t.Helper()
	k, err := newKeeper(b, [32]byte{key}, now)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOneCAPerInstanceHoweverManyMakeIt(t *testing.T) {
	t.Parallel()
	b := newMemoryBucket()
	var wg sync.WaitGroup
	got := make([]*authority, 16)
	for i := range got {
		wg.Go(func() {
			a, err := testKeeper(t, b, 1, time.Now).authority(context.Background(), "spiffe://td/one")
			if err != nil {
				t.Error(err)
				return
			}
			got[i] = a
		})
	}
	wg.Wait()
	for _, a := range got {
		if a.fingerprint != got[0].fingerprint {
			t.Fatal("two CAs for one instance")
		}
	}
	other, err := testKeeper(t, b, 1, time.Now).authority(context.Background(), "spiffe://td/two")
	if err != nil || other.fingerprint == got[0].fingerprint {
		t.Fatal("two instances share a CA")
	}
}

func TestASealedCAOpensOnlyWithItsKeyForItsInstance(t *testing.T) {
	t.Parallel()
	b := newMemoryBucket()
	ctx := context.Background()
	if _, err := testKeeper(t, b, 1, time.Now).authority(ctx, "spiffe://td/one"); err != nil {
		t.Fatal(err)
	}
	sealed := b.entries["spiffe://td/one"].Value
	if bytes.Contains(sealed, []byte("PRIVATE")) {
		t.Fatal("the key is not sealed")
	}
	refused := func(why string, key byte, instance policy.Instance, value []byte) {
		t.Helper()
		b := newMemoryBucket()
		if _, err := b.Swap(ctx, string(instance), 0, value); err != nil {
			t.Fatal(err)
		}
		if _, err := testKeeper(t, b, key, time.Now).authority(ctx, instance); err == nil {
			t.Errorf("%s: opened", why)
		}
		if !bytes.Equal(b.entries[string(instance)].Value, value) {
			t.Errorf("%s: replaced", why)
		}
	}
	refused("another key", 2, "spiffe://td/one", sealed)
	refused("another instance", 1, "spiffe://td/two", sealed)
	refused("damaged", 1, "spiffe://td/one", append(bytes.Clone(sealed[:len(sealed)-1]), sealed[len(sealed)-1]^1))
	refused("cut short", 1, "spiffe://td/one", sealed[:5])
	refused("empty", 1, "spiffe://td/one", []byte{})
	refused("another version", 1, "spiffe://td/one", append([]byte{9}, sealed[1:]...))
}

func TestACAIsReplacedBeforeItsLeavesWouldOutliveIt(t *testing.T) {
	t.Parallel()
	b := newMemoryBucket()
	now := time.Now()
	k := testKeeper(t, b, 1, func() time.Time { return now })
	first, err := k.authority(context.Background(), "i")
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(caLifetime - caRenewal - time.Hour)
	if same, err := k.authority(context.Background(), "i"); err != nil || same.fingerprint != first.fingerprint {
		t.Fatal("replaced too early")
	}
	now = now.Add(2 * time.Hour)
	if next, err := k.authority(context.Background(), "i"); err != nil || next.fingerprint == first.fingerprint {
		t.Fatal("not replaced")
	}
}

func TestACAThatNobodyUsesIsSweptAway(t *testing.T) {
	t.Parallel()
	b := newMemoryBucket()
	now := time.Now()
	k := testKeeper(t, b, 1, func() time.Time { return now })
	ctx := context.Background()
	for _, i := range []policy.Instance{"used", "unused"} {
		if _, err := k.authority(ctx, i); err != nil {
			t.Fatal(err)
		}
	}
	first, err := k.authority(ctx, "used")
	if err != nil {
		t.Fatal(err)
	}
	for range 5 { // a stream now and then
		now = now.Add(8 * 24 * time.Hour)
		same, err := k.authority(ctx, "used")
		if err != nil || same.fingerprint != first.fingerprint {
			t.Fatal("another CA", err)
		}
		if err := k.sweep(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if len(b.entries) != 1 || b.entries["used"].Revision == 0 {
		t.Fatalf("kept: %v", len(b.entries))
	}
}

func TestLeavesAreForOneHostAndRotate(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 11, 59, 59, 0, time.UTC)
	ca, err := newAuthority("i", now)
	if err != nil {
		t.Fatal(err)
	}
	if !ca.cert.IsCA || !ca.cert.MaxPathLenZero || len(ca.cert.ExtKeyUsage) != 1 || ca.cert.ExtKeyUsage[0] != x509.ExtKeyUsageServerAuth {
		t.Error("the CA may do more than sign server certificates")
	}
	v := newVault(ca, func() time.Time { return now })
	roots := poolOf(t, ca.certPEM)
	secret := func(name string) (*tlsv3.Secret, string) {
		t.Helper()
		r, err := v.secret(name)
		if err != nil || r == nil {
			t.Fatalf("%s: %v %v", name, r, err)
		}
		s := new(tlsv3.Secret)
		if err := r.body.UnmarshalTo(s); err != nil {
			t.Fatal(err)
		}
		return s, r.version
	}
	s1, v1 := secret("leaf/api.test")
	leaf := verify(t, roots, s1.GetTlsCertificate(), "api.test", now)
	if len(leaf.DNSNames) != 1 || leaf.IsCA || leaf.NotAfter.Sub(leaf.NotBefore) > 4*leafWindow || leaf.NotAfter.Sub(now) > 25*time.Hour {
		t.Errorf("leaf: %v until %v", leaf.DNSNames, leaf.NotAfter)
	}
	if _, again := secret("API.TEST."); again != v1 {
		t.Error("another spelling is another leaf")
	}
	next := nextWindow(now)
	verify(t, roots, s1.GetTlsCertificate(), "api.test", next.Add(leafWindow-time.Second)) // outlives its window
	now = next
	s2, v2 := secret("leaf/api.test")
	if v1 == v2 {
		t.Error("no new leaf in a new window")
	}
	verify(t, roots, s2.GetTlsCertificate(), "api.test", now)
}

func TestTheLeavesKeptAreBounded(t *testing.T) {
	t.Parallel()
	ca, err := newAuthority("i", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	v := newVault(ca, time.Now)
	for i := range leafCacheSize + 10 {
		if _, err := v.secret("h" + strconv.Itoa(i) + ".test"); err != nil {
			t.Fatal(err)
		}
	}
	if len(v.leaves) != leafCacheSize || len(v.order) != leafCacheSize {
		t.Errorf("%d leaves kept", len(v.leaves))
	}
	// And so are the names on demand, over all of an instance's streams.
	a, b := newOnDemand(v), newOnDemand(v)
	for i := range maxOnDemand {
		if a.version("h"+strconv.Itoa(i)+".test") == "" {
			t.Fatal("refused within the bound")
		}
	}
	if a.version("one-more.test") != "" || b.version("one-more.test") != "" {
		t.Error("served past the bound")
	}
	if a.version("h1.test") == "" || b.version(SecretCA) == "" {
		t.Error("what was held is no longer served")
	}
	a.close()
	if newOnDemand(v).version("one-more.test") == "" {
		t.Error("a closed stream gives nothing back")
	}
}

func TestNamesThatGetACertificate(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"api.test": "api.test", "API.Test": "api.test", "api.test.": "api.test", "intranet": "intranet", "_dmarc.api.test": "_dmarc.api.test",
		"xn--bcher-kva.example": "xn--bcher-kva.example", tokenNoSNI: tokenNoSNI,
		"": "", ".": "", "a..b": "", "-a.test": "", "a-.test": "", "*.test": "", "a b": "", "a/b": "", "1.2.3.4": "", "bücher.example": "", "a\x00b": "",
		strings.Repeat("a", 64) + ".test": "", strings.Repeat("a.", 126) + "a": strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 128): "",
	} {
		got, ok := normaliseHost(name)
		if ok != (want != "") || got != want {
			t.Errorf("%q: %q %v, want %q", name, got, ok, want)
		}
	}
}

func TestAVaultThatCannotBeOpenedIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	b := &failingBucket{memoryBucket: newMemoryBucket(), fail: true}
	r.server.vaults.keeper.bucket = b
	if _, _, err := r.server.vaults.hold(t.Context(), "i"); err == nil {
		t.Fatal("opened")
	}
	b.fail = false
	_, release, err := r.server.vaults.hold(t.Context(), "i")
	if err != nil {
		t.Fatal(err)
	}
	release()
	release() // twice is once
	if len(r.server.vaults.open) != 0 {
		t.Error("kept open")
	}
}

type failingBucket struct {
	*memoryBucket
	fail bool
}

func (b *failingBucket) Swap(ctx context.Context, key string, old int64, value []byte) (int64, error) {
	if b.fail {
		return 0, errors.New("no")
	}
	return b.memoryBucket.Swap(ctx, key, old, value)
}

package xds

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
)

// leafCacheSize bounds the leaves kept per instance. An agent may ask for any
// name: past the bound, the oldest are signed anew.
const leafCacheSize = 1024

// vault gives an instance's secrets: its CA's certificate, and leaves.
type vault struct {
	ca     *authority
	now    func() time.Time
	opened time.Time

	mu     sync.Mutex
	leaves map[leafKey]*leaf
	order  []leafKey // oldest first

	held atomic.Int64 // names held on demand
}

type leafKey struct {
	host   string
	window int64
}

func newVault(ca *authority, now func() time.Time) *vault {
	return &vault{ca: ca, now: now, opened: now(), leaves: make(map[leafKey]*leaf)}
}

// due reports whether the next stream is to open the vault anew: the CA needs a
// successor, or the store is to be told that this one is still in use.
func (v *vault) due() bool {
	now := v.now()
	return v.ca.stale(now) || now.Sub(v.opened) > leafWindow
}

// version is that of the named secret now, or "" when there is none of that
// name. It needs no signature, and is the same in every replica although each
// would sign another leaf: whoever holds that version needs no other.
func (v *vault) version(name string) string {
	if name == SecretCA {
		return versionOf([]byte(v.ca.fingerprint))
	}
	host, ok := hostOfSecret(name)
	if !ok {
		return ""
	}
	sum := sha256.Sum256([]byte(v.ca.fingerprint + "\x00" + host + "\x00" + strconv.FormatInt(windowAt(v.now()), 10)))
	return hex.EncodeToString(sum[:12])
}

// secret is the named secret, or nil when there is none of that name.
func (v *vault) secret(name string) (*resource, error) {
	version := v.version(name)
	if version == "" {
		return nil, nil
	}
	if name == SecretCA {
		return &resource{name: name, version: version, body: pack(caSecret(v.ca))}, nil
	}
	host, _ := hostOfSecret(name)
	l, err := v.leaf(host)
	if err != nil {
		return nil, err
	}
	return &resource{name: name, version: version, body: pack(leafSecret(name, l))}, nil
}

func (v *vault) leaf(host string) (*leaf, error) {
	key := leafKey{host, windowAt(v.now())}
	v.mu.Lock()
	defer v.mu.Unlock()
	if l, ok := v.leaves[key]; ok {
		return l, nil
	}
	l, err := v.ca.leaf(key.host, key.window)
	if err != nil {
		return nil, err
	}
	if len(v.order) >= leafCacheSize {
		delete(v.leaves, v.order[0])
		v.order = v.order[1:]
	}
	v.leaves[key] = l
	v.order = append(v.order, key)
	return l, nil
}

// hostOfSecret gives the host of a leaf's name: leaf/<host>, or the server name
// just as a client sent it.
func hostOfSecret(name string) (string, bool) {
	return normaliseHost(strings.TrimPrefix(name, leafPrefix))
}

// normaliseHost brings a server name into the form that goes into a certificate:
// lower case, no trailing dot, a host name of RFC 1123 section 2.1 (with
// underscores, which clients accept), no address. So upper and lower case share
// one leaf, and what no client would accept gets none.
func normaliseHost(name string) (string, bool) {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "" || len(name) > 253 {
		return "", false
	}
	for label := range strings.SplitSeq(name, ".") {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return "", false
		}
		for _, c := range []byte(label) {
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return "", false
			}
		}
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return "", false
	}
	return name, true
}

func leafSecret(name string, l *leaf) *tlsv3.Secret {
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inline(l.certPEM),
		PrivateKey:       inline(l.keyPEM),
	}}}
}

func caSecret(ca *authority) *tlsv3.Secret {
	return &tlsv3.Secret{Name: SecretCA, Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(ca.certPEM)},
	}}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

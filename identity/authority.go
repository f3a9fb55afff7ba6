package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// DefaultSVIDTTL is how long an X.509-SVID is valid unless told otherwise.
const DefaultSVIDTTL = time.Hour

// AuthorityConfig says where an authority lives and for whom it signs.
type AuthorityConfig struct {
	Dir         string           // holds the root's key: 0700, made when absent
	TrustDomain string           // fixed when Dir is first used
	SVIDTTL     time.Duration    // of each SVID, renewed at half of it; 0 means DefaultSVIDTTL
	Clock       func() time.Time // nil means the wall clock
	Log         *slog.Logger     // nil means slog.Default
}

// Authority is the embedded authority of one trust domain.
type Authority struct {
	dir    string
	root   root
	td     spiffeid.TrustDomain
	bundle *x509bundle.Bundle // never changed after OpenAuthority
	ttl    time.Duration
	clock  func() time.Time
	log    *slog.Logger

	mu      sync.Mutex
	entries []*entry
	changed chan struct{} // closed when what some caller holds may have changed
}

// Entry says which process is which workload.
type Entry struct {
	ID  ID
	PID int
	// Start is the process's start time as Peer.Start gives it; 0 means that of
	// the process that has the PID now.
	Start    uint64
	DNSNames []string // further names in its certificate
}

// entry is an Entry in force: the PID alone would be inherited by whoever gets
// it next.
type entry struct {
	process process
	source  *Source
}

// OpenAuthority opens the authority of a folder, and makes its root the first
// time. It refuses a folder or key file that others can read, and another trust
// domain than the folder was made for.
func OpenAuthority(c AuthorityConfig) (*Authority, error) {
	td, err := spiffeid.TrustDomainFromString(c.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	a := &Authority{dir: c.Dir, td: td, ttl: c.SVIDTTL, clock: c.Clock, log: c.Log, changed: make(chan struct{})}
	if a.ttl == 0 {
		a.ttl = DefaultSVIDTTL
	}
	if a.ttl < 0 {
		return nil, errors.New("identity: SVIDTTL must be positive")
	}
	if a.clock == nil {
		a.clock = time.Now
	}
	if a.log == nil {
		a.log = slog.Default()
	}
	if a.root, err = openRoot(c.Dir, td, a.clock()); err != nil {
		return nil, err
	}
	a.bundle = x509bundle.FromX509Authorities(td, a.root.certs)
	a.restore()
	return a, nil
}

// BundlePEM is the trust domain's roots, as PEM.
func (a *Authority) BundlePEM() []byte { return encodePEM(a.root.certs) }

// Source is an identity of this process itself, such as one of its servers. dns
// and ips are further names in its certificate, for clients that know no SPIFFE.
// An ID of another trust domain shows as an error of each GetX509SVID.
func (a *Authority) Source(id ID, dns []string, ips []net.IP) *Source {
	return &Source{authority: a, id: id, dns: dns, ips: ips}
}

// Register makes a running process a workload. It stays so until remove is
// called or the process ends, also when the authority is started again meanwhile:
// the entry is for this process only, not for the next one with its PID. A process may be registered under several IDs; the
// first is its default.
func (a *Authority) Register(e Entry) (remove func(), err error) {
	if !e.ID.MemberOf(a.td) || e.ID.Path() == "" {
		return nil, errors.New("identity: an entry's ID must be a workload of this trust domain")
	}
	p, err := processOf(e.PID)
	if err != nil {
		return nil, fmt.Errorf("identity: cannot attest the process: %w", err)
	}
	if e.Start != 0 && e.Start != p.start {
		return nil, errors.New("identity: the process to register has ended")
	}
	made := &entry{process: p, source: a.Source(e.ID, e.DNSNames, nil)}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = append(slices.DeleteFunc(a.entries, (*entry).gone), made)
	a.saveLocked()
	a.wakeLocked()
	a.log.Info("workload registered", "spiffe_id", e.ID.String(), "pid", e.PID)
	return func() { a.remove(made) }, nil
}

func (e *entry) gone() bool { return e.process.verify() != nil }

func (a *Authority) remove(e *entry) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = slices.DeleteFunc(a.entries, func(other *entry) bool { return other == e })
	a.saveLocked()
	a.wakeLocked()
}

func (a *Authority) wake() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wakeLocked()
}

func (a *Authority) wakeLocked() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// holdings is what a process may hold now, and a channel that is closed when it
// should ask again. A process that ended, and then anyone who inherited its
// connection, holds nothing.
func (a *Authority) holdings(p process) (material, <-chan struct{}, error) {
	a.mu.Lock()
	changed := a.changed // before the look, so that no change is missed
	var sources []*Source
	for _, e := range a.entries {
		if e.process == p {
			sources = append(sources, e.source)
		}
	}
	a.mu.Unlock()
	if len(sources) == 0 || p.verify() != nil {
		return material{}, nil, errNoIdentity
	}
	m := material{bundles: []*x509bundle.Bundle{a.bundle}}
	for _, s := range sources {
		svid, err := s.renewed(a.wake)
		if err != nil {
			return material{}, nil, err
		}
		m.svids = append(m.svids, svid)
	}
	return m, changed, nil
}

// material is what one caller may hold: never without an SVID or a bundle.
type material struct {
	svids   []*x509svid.SVID     // the first is the default
	bundles []*x509bundle.Bundle // the first is of the caller's own trust domain
}

func newMaterial(svid *x509svid.SVID, bundle *x509bundle.Bundle) material {
	return material{svids: []*x509svid.SVID{svid}, bundles: []*x509bundle.Bundle{bundle}}
}

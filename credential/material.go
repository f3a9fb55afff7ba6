package credential

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/exeat-dev/exeat/credential/record"
	"github.com/exeat-dev/exeat/policy"
)

// material is a credential as it is stored, sealed.
type material struct {
	Minted
	id          string
	fingerprint string
	minted      time.Time
}

func (m *material) seal(s *sealer, grant policy.GrantID) ([]byte, error) {
	r := &record.Material{
		Version: recordVersion, Id: m.id, Handle: m.Handle, Fingerprint: m.fingerprint,
		Minted: nanos(m.minted), Expires: nanos(m.Expires), Injected: m.Injected,
	}
	for _, h := range m.Headers {
		r.Headers = append(r.Headers, &record.Header{Name: h.Name, Value: h.Value.Expose()})
	}
	b, err := proto.Marshal(r)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return s.seal(purposeCredential, string(grant), b)
}

func openMaterial(s *sealer, c *policy.SealedCredential) (*material, error) {
	b, err := s.open(purposeCredential, string(c.Grant), c.Sealed)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	var r record.Material
	if proto.Unmarshal(b, &r) != nil || r.GetVersion() != recordVersion {
		return nil, errRecord
	}
	m := &material{id: r.GetId(), fingerprint: r.GetFingerprint(), minted: fromNanos(r.GetMinted())}
	m.Handle, m.Expires, m.Injected = r.GetHandle(), fromNanos(r.GetExpires()), r.GetInjected()
	for _, h := range r.GetHeaders() {
		m.Headers = append(m.Headers, Header{Name: h.GetName(), Value: policy.NewSecret(h.GetValue())})
	}
	return m, nil
}

// refreshAt is when a fresh one is to be minted: after two thirds of its life,
// unless it lasts as long as any could; zero for never.
func (m *material) refreshAt(until time.Time) time.Time {
	if m.Expires.IsZero() || !m.Expires.Before(until.Truncate(time.Second)) {
		return time.Time{}
	}
	return m.minted.Add(m.Expires.Sub(m.minted) * 2 / 3)
}

// fingerprintOf names what a credential was minted from: the provider as it was
// and what was asked of it. Under another one the credential is not used.
func fingerprintOf(subject string, r *policy.Resolved) (string, error) {
	spec, err := json.Marshal(r.Provider.Spec)
	if err != nil {
		return "", fmt.Errorf("provider %s: %w", r.Provider.Name, err)
	}
	h := sha256.New()
	part := func(s string) { // with its length, so that no two lists read alike
		_ = binary.Write(h, binary.BigEndian, uint64(len(s)))
		h.Write([]byte(s))
	}
	part(r.Provider.Name)
	part(string(spec))
	part(subject)
	for _, k := range slices.Sorted(maps.Keys(r.Scope)) {
		part(k)
		part(r.Scope[k])
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// opened is a credential ready to use, for one revision of it under one
// resolution of its grant. Immutable.
type opened struct {
	*material
	revision int64
	resolved *policy.Resolved
	provider Provider
}

// open gives a grant's credential, from the cache when nothing changed.
func (m *Manager) open(held *policy.Held) (*opened, error) {
	if held.Resolved == nil || held.Resolved.Provider == nil {
		return nil, ErrStale
	}
	if held.Credential == nil {
		return nil, ErrNotMinted
	}
	if v, ok := m.opened.Load(held.Grant.ID); ok {
		o := v.(*opened)
		if o.revision == held.Credential.Revision && o.resolved == held.Resolved {
			return o, nil
		}
	}
	o, err := m.unseal(held)
	if err != nil {
		return nil, err
	}
	m.opened.Store(held.Grant.ID, o)
	return o, nil
}

// unseal opens a credential and checks that it is what the catalog in force
// asks for.
func (m *Manager) unseal(held *policy.Held) (*opened, error) {
	if held.Credential.Grant != held.Grant.ID {
		return nil, ErrSealed
	}
	mat, err := openMaterial(m.sealer, held.Credential)
	if err != nil {
		return nil, err
	}
	want, err := fingerprintOf(m.subject(held.Grant.Agent), held.Resolved)
	if err != nil {
		return nil, err
	}
	if mat.fingerprint != want {
		return nil, ErrStale
	}
	p, err := m.provider(held.Resolved.Provider)
	if err != nil {
		return nil, err
	}
	return &opened{material: mat, revision: held.Credential.Revision, resolved: held.Resolved, provider: p}, nil
}

// subject is an agent's SPIFFE ID; empty when the catalog does not know it.
func (m *Manager) subject(agent string) string {
	cat := m.index.Catalog()
	if cat == nil {
		return ""
	}
	a, ok := cat.Agent(agent)
	if !ok {
		return ""
	}
	return a.SPIFFEID
}

// Apply gives the headers that carry the grant's credential on one call; none
// when its capability has no provider. It takes no lock. The headers are shared:
// they must not be changed.
func (m *Manager) Apply(ctx context.Context, held *policy.Held, call *policy.Call) ([]Header, error) {
	if held == nil || held.Resolved == nil {
		return nil, ErrStale
	}
	if held.Resolved.Provider == nil {
		return nil, nil
	}
	o, err := m.open(held)
	if err != nil {
		return nil, err
	}
	if !o.Expires.IsZero() && !m.now().Before(o.Expires) {
		return nil, ErrExpired
	}
	return o.provider.Apply(ctx, o.Minted, call)
}

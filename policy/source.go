package policy

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds on a published catalog, in bytes. The packed one fits a record of the
// store; the other keeps a small record from filling memory.
const (
	MaxPackedSet = 1 << 20
	MaxSet       = 16 << 20
)

// Errors of EncodeSet and DecodeSet.
var (
	ErrSetTooLarge = errors.New("catalog is too large")
	ErrSetInvalid  = errors.New("not a catalog")
)

// EncodeSet packs a set for the store: gzip (RFC 1952) of its JSON, objects in
// order of their names. The same set gives the same bytes, whatever the order
// of its objects; metadata other than names is left out.
func EncodeSet(set *v1alpha1.Set) ([]byte, error) {
	plain, err := canonicalSet(set)
	if err != nil {
		return nil, err
	}
	if len(plain) > MaxSet {
		return nil, ErrSetTooLarge
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b) // without a time or a name in its header
	if _, err := z.Write(plain); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if b.Len() > MaxPackedSet {
		return nil, ErrSetTooLarge
	}
	return b.Bytes(), nil
}

// DecodeSet unpacks what EncodeSet packed. A field that this version does not
// know is an error: ignoring it could ignore a restriction.
func DecodeSet(source []byte) (*v1alpha1.Set, error) {
	if len(source) > MaxPackedSet {
		return nil, ErrSetTooLarge
	}
	plain, err := unpack(source)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	set := new(v1alpha1.Set)
	if err := d.Decode(set); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetInvalid, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows it", ErrSetInvalid)
	}
	return set, nil
}

// unpack reads one gzip member and insists that nothing follows it: two
// readers must not find two catalogs in one record.
func unpack(source []byte) ([]byte, error) {
	r := bytes.NewReader(source)
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSetInvalid, err)
	}
	z.Multistream(false)
	plain, err := io.ReadAll(io.LimitReader(z, MaxSet+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrSetInvalid, err)
	case len(plain) > MaxSet:
		return nil, ErrSetTooLarge
	case r.Len() > 0:
		return nil, fmt.Errorf("%w: something follows it", ErrSetInvalid)
	}
	return plain, nil
}

// revisionOf names a set's content.
func revisionOf(set *v1alpha1.Set) (string, error) {
	plain, err := canonicalSet(set)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(plain)
	return "c_" + hex.EncodeToString(sum[:20]), nil
}

// canonicalSet is the set's content as JSON, independent of the order of its
// objects and of the metadata that a cluster adds.
func canonicalSet(set *v1alpha1.Set) ([]byte, error) {
	if set == nil {
		return nil, ErrSetInvalid
	}
	out := v1alpha1.Set{
		Agents:       sortedByName(set.Agents, func(a *v1alpha1.Agent) *metav1.ObjectMeta { return &a.ObjectMeta }),
		Destinations: sortedByName(set.Destinations, func(d *v1alpha1.Destination) *metav1.ObjectMeta { return &d.ObjectMeta }),
		Providers:    sortedByName(set.Providers, func(p *v1alpha1.Provider) *metav1.ObjectMeta { return &p.ObjectMeta }),
		Capabilities: sortedByName(set.Capabilities, func(c *v1alpha1.Capability) *metav1.ObjectMeta { return &c.ObjectMeta }),
		Access:       sortedByName(set.Access, func(a *v1alpha1.Access) *metav1.ObjectMeta { return &a.ObjectMeta }),
		Policies:     slices.Clone(set.Policies),
		CAs:          set.CAs,
	}
	slices.SortStableFunc(out.Policies, func(a, b v1alpha1.PolicyModule) int { return cmp.Compare(a.Path, b.Path) })
	for i := range out.Agents {
		out.Agents[i].TypeMeta = typeMeta("Agent")
	}
	for i := range out.Destinations {
		out.Destinations[i].TypeMeta = typeMeta("Destination")
	}
	for i := range out.Providers {
		out.Providers[i].TypeMeta = typeMeta("Provider")
	}
	for i := range out.Capabilities {
		out.Capabilities[i].TypeMeta = typeMeta("Capability")
	}
	for i := range out.Access {
		out.Access[i].TypeMeta = typeMeta("Access")
	}
	return json.Marshal(out)
}

func typeMeta(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.APIVersion, Kind: kind}
}

// sortedByName copies a list, in order and with names for metadata; the
// caller's objects are not touched.
func sortedByName[T any](list []T, meta func(*T) *metav1.ObjectMeta) []T {
	out := slices.Clone(list)
	for i := range out {
		m := meta(&out[i])
		*m = metav1.ObjectMeta{Name: m.Name}
	}
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(meta(&a).Name, meta(&b).Name) })
	return out
}

package policy

import (
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math/rand"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSetIsPackedTheSameInAnyOrder(t *testing.T) {
	t.Parallel()
	first, err := EncodeSet(fixtureSet(t))
	if err != nil {
		t.Fatal(err)
	}
	want := fixture(t).Revision()
	if !strings.HasPrefix(want, "c_") || len(want) != 42 {
		t.Errorf("revision %q", want)
	}
	for range 5 {
		set := fixtureSet(t)
		rand.Shuffle(len(set.Capabilities), func(i, j int) {
			set.Capabilities[i], set.Capabilities[j] = set.Capabilities[j], set.Capabilities[i]
		})
		rand.Shuffle(len(set.Agents), func(i, j int) { set.Agents[i], set.Agents[j] = set.Agents[j], set.Agents[i] })
		set.Agents[0].ObjectMeta.ResourceVersion = "7"
		set.Agents[0].ObjectMeta.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "x"}}
		again, err := EncodeSet(set)
		cat, problems := Compile(set)
		if err != nil || !bytes.Equal(first, again) || len(problems) > 0 || cat.Revision() != want {
			t.Errorf("another order gives other bytes or another revision: %v %v", err, problems)
		}
		if set.Agents[0].ResourceVersion != "7" {
			t.Error("the set was changed")
		}
	}
}

func TestRevisionIsOfTheContent(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{fixture(t).Revision(): true}
	for _, change := range []func(*v1alpha1.Set){
		addHost("x.example"), addHeader("X-More"), narrow(0, "project", "OPS"), ruleMethod("PUT"), ruleQuery("a", "b"),
		browse(func(c *v1alpha1.CapabilitySpec) { c.Description = "x" }),
		func(s *v1alpha1.Set) { s.CAs = map[string]string{"unused.pem": "x"} },
	} {
		set := fixtureSet(t)
		change(set)
		cat, problems := Compile(set)
		if len(problems) > 0 || seen[cat.Revision()] {
			t.Errorf("no revision of its own: %v", problems)
			continue
		}
		seen[cat.Revision()] = true
	}
}

func TestUnpackedSetIsTheOneThatWasPacked(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	set.Capabilities[2].Spec.Calls[1].Query = &v1alpha1.QueryRule{} // lists nothing: not any, not absent
	source, err := EncodeSet(set)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeSet(source)
	if err != nil {
		t.Fatal(err)
	}
	one, p1 := Compile(set)
	two, p2 := Compile(back)
	if len(p1)+len(p2) > 0 || one.Revision() != two.Revision() {
		t.Errorf("%v %v", p1, p2)
	}
}

func pack(t testing.TB, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestDecodeRefuses(t *testing.T) {
	t.Parallel()
	whole, err := EncodeSet(fixtureSet(t))
	if err != nil {
		t.Fatal(err)
	}
	for why, tt := range map[string]struct {
		source []byte
		want   error
	}{
		"nothing":                 {nil, ErrSetInvalid},
		"what is not gzip":        {[]byte("{}"), ErrSetInvalid},
		"half of it":              {whole[:len(whole)/2], ErrSetInvalid},
		"a byte changed":          {flipped(whole), ErrSetInvalid},
		"something after it":      {append(bytes.Clone(whole), 'x'), ErrSetInvalid},
		"another after it":        {append(bytes.Clone(whole), whole...), ErrSetInvalid},
		"JSON after JSON":         {pack(t, "{}{}"), ErrSetInvalid},
		"what is not JSON":        {pack(t, "{"), ErrSetInvalid},
		"a field of a later time": {pack(t, `{"capabilities":[{"metadata":{"name":"a"},"spec":{"later":{}}}]}`), ErrSetInvalid},
		"a kind of a later time":  {pack(t, `{"later":[]}`), ErrSetInvalid},
		"a body rule of another":  {pack(t, `{"capabilities":[{"metadata":{},"spec":{"calls":[{"body":{"json":{}}}]}}]}`), ErrSetInvalid},
		"a query rule of another": {pack(t, `{"capabilities":[{"metadata":{},"spec":{"calls":[{"query":"all"}]}}]}`), ErrSetInvalid},
		"a large record":          {make([]byte, MaxPackedSet+1), ErrSetTooLarge},
		"a small one that swells": {pack(t, `"`+strings.Repeat("a", MaxSet)+`"`), ErrSetTooLarge},
	} {
		t.Run(why, func(t *testing.T) {
			t.Parallel()
			if set, err := DecodeSet(tt.source); !errors.Is(err, tt.want) || set != nil {
				t.Errorf("%v, %v", set, err)
			}
		})
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-6] ^= 1 // in the checksum
	return b
}

func TestEncodeRefuses(t *testing.T) {
	t.Parallel()
	if _, err := EncodeSet(nil); !errors.Is(err, ErrSetInvalid) {
		t.Error(err)
	}
	set := fixtureSet(t)
	set.CAs = map[string]string{"x": strings.Repeat("a", MaxSet)}
	if _, err := EncodeSet(set); !errors.Is(err, ErrSetTooLarge) {
		t.Error(err)
	}
	noise := make([]byte, 2*MaxPackedSet)
	rand.New(rand.NewSource(1)).Read(noise) //nolint:gosec // only incompressible
	set.CAs["x"] = hex.EncodeToString(noise)
	if _, err := EncodeSet(set); !errors.Is(err, ErrSetTooLarge) {
		t.Error(err)
	}
	set.CAs = nil
	set.Capabilities[0].Spec.Calls[0].Body = &v1alpha1.BodyRule{}
	if _, err := EncodeSet(set); err == nil {
		t.Error("a body rule without a meaning was written")
	}
}

func FuzzDecodeSet(f *testing.F) {
	whole, err := EncodeSet(fixtureSet(f))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add(pack(f, "{}"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, source []byte) {
		set, err := DecodeSet(source)
		if err != nil {
			if set != nil || !errors.Is(err, ErrSetInvalid) && !errors.Is(err, ErrSetTooLarge) {
				t.Fatal(set, err)
			}
			return
		}
		if _, err := EncodeSet(set); err != nil {
			t.Fatalf("cannot be packed again: %v", err)
		}
	})
}

// FuzzCompile: no set brings the compiler down, and what compiles means the
// same once it was published and read back.
func FuzzCompile(f *testing.F) {
	f.Add(fixtureJSON, "/v1/tickets/OPS-42")
	f.Add(`{}`, "/")
	f.Add(`{"capabilities":[{"metadata":{"name":"a"},"spec":{"params":{"x":{"pattern":"${x}"}},"destination":"d","calls":[{"method":"GET","path":"/${x}/**"}]}}]}`, "/a")
	f.Add(strings.Replace(fixtureJSON, `[A-Z]{2,5}`, `[^]${ticket}]`, 1), "/")
	f.Fuzz(func(t *testing.T, text, target string) {
		set := new(v1alpha1.Set)
		if json.Unmarshal([]byte(text), set) != nil {
			return
		}
		cat, problems := Compile(set)
		if (cat == nil) != (len(problems) > 0) {
			t.Fatal(cat, problems)
		}
		if cat == nil {
			return
		}
		source, err := EncodeSet(set)
		if err != nil {
			return
		}
		back, err := DecodeSet(source)
		if err != nil {
			t.Fatal(err)
		}
		again, problems := Compile(back)
		if len(problems) > 0 || again.Revision() != cat.Revision() {
			t.Fatal("changed by publishing", problems)
		}
		fuzzSuggestions(t, cat, target)
	})
}

func fuzzSuggestions(t *testing.T, cat *Catalog, target string) {
	for _, d := range cat.Destinations() {
		for _, host := range d.Hosts {
			c, err := ParseCall(RawCall{Method: "GET", Scheme: d.Scheme(), Authority: host + ":" + itoa(d.Port), Target: target})
			if err != nil {
				continue
			}
			for _, a := range cat.Agents() {
				for _, n := range cat.Suggest(a, &c) {
					if e, _ := a.EligibleFor(n.Capability); len(n.Params) == len(e.Capability.Params) {
						r, err := cat.Resolve(a.Name, n.Capability, n.Params)
						if err != nil || r.Match(&c) != Allowed {
							t.Fatal(n, err)
						}
					}
				}
			}
		}
	}
}

package credential

import (
	"bytes"
	"errors"
	"testing"

	"pgregory.net/rapid"
)

func TestASealedValueOpensOnlyAsWhatItIs(t *testing.T) {
	t.Parallel()
	s, err := newSealer(testKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.Byte()).Draw(t, "text")
		name := rapid.String().Draw(t, "name")
		sealed, err := s.seal(purposeCredential, name, text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := s.open(purposeCredential, name, sealed); err != nil || !bytes.Equal(got, text) {
			t.Fatalf("opened %q as %q: %v", text, got, err)
		}
		if len(text) >= 8 && bytes.Contains(sealed, text) {
			t.Fatal("the text is in the sealed value")
		}
		if _, err := s.open(purposeIssuer, name, sealed); !errors.Is(err, ErrSealed) {
			t.Fatal("opened for another purpose")
		}
		if _, err := s.open(purposeCredential, name+"x", sealed); !errors.Is(err, ErrSealed) {
			t.Fatal("opened under another name")
		}
		bad := bytes.Clone(sealed)
		bad[rapid.IntRange(0, len(bad)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		if _, err := s.open(purposeCredential, name, bad); !errors.Is(err, ErrSealed) {
			t.Fatal("opened a changed value")
		}
		if _, err := s.open(purposeCredential, name, sealed[:rapid.IntRange(0, len(sealed)-1).Draw(t, "cut")]); !errors.Is(err, ErrSealed) {
			t.Fatal("opened a cut value")
		}
	})
}

func TestEqualValuesSealDifferently(t *testing.T) {
	t.Parallel()
	s, err := newSealer(testKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := s.seal(purposeCredential, "g_1", []byte("text"))
	b, _ := s.seal(purposeCredential, "g_1", []byte("text"))
	if bytes.Equal(a, b) || bytes.Equal(a[sealPrefix:sealPrefix+wrappedSize], b[sealPrefix:sealPrefix+wrappedSize]) {
		t.Error("two records share a data key")
	}
}

func TestOldKeysOpenAndNewOnesSeal(t *testing.T) {
	t.Parallel()
	old, _ := newSealer([32]byte{1}, nil)
	both, _ := newSealer([32]byte{2}, [][32]byte{{1}})
	only, _ := newSealer([32]byte{2}, nil)
	sealed, _ := old.seal(purposeIssuer, "keys", []byte("text"))
	if _, err := both.open(purposeIssuer, "keys", sealed); err != nil {
		t.Error(err)
	}
	if _, err := only.open(purposeIssuer, "keys", sealed); !errors.Is(err, ErrSealed) {
		t.Errorf("opened without the old key: %v", err)
	}
	sealed, _ = both.seal(purposeIssuer, "keys", []byte("text"))
	if _, err := only.open(purposeIssuer, "keys", sealed); err != nil {
		t.Errorf("not sealed under the new key: %v", err)
	}
}

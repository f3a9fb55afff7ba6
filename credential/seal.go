package credential

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
)

// What a sealed value is for; part of what is authenticated, so that one value
// can never be taken for another.
const (
	purposeCredential = "exeat/credential"
	purposeIssuer     = "exeat/issuer"
)

// A sealed value is: version, id of the wrapping key, the data key wrapped, the
// text under the data key. Both are AES-256-GCM with a random nonce in front
// (NIST SP 800-38D), and both authenticate version, key id, purpose and name.
const (
	sealVersion = 1
	keyIDSize   = 8
	dataKeySize = 32
	nonceSize   = 12
	tagSize     = 16
	wrappedSize = nonceSize + dataKeySize + tagSize
	sealPrefix  = 1 + keyIDSize
)

// sealer seals under one key and opens under that and older ones.
type sealer struct {
	current wrapKey
	all     []wrapKey
}

// wrapKey wraps data keys.
type wrapKey struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

// newSealer refuses an all-zero key: that is one that was never read.
func newSealer(key [32]byte, old [][32]byte) (*sealer, error) {
	if key == ([32]byte{}) {
		return nil, errors.New("credential: the sealing key is missing: want 32 random bytes")
	}
	s := new(sealer)
	for _, k := range append([][32]byte{key}, old...) {
		aead, err := gcm(k[:])
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(append([]byte("exeat sealing key id\x00"), k[:]...))
		s.all = append(s.all, wrapKey{id: [keyIDSize]byte(sum[:]), aead: aead})
	}
	s.current = s.all[0]
	return s, nil
}

// gcm is AES-256-GCM that draws its own nonces and puts them in front.
func gcm(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// seal encrypts text for one purpose and name, such as a grant's ID, under a
// data key of its own.
func (s *sealer) seal(purpose, name string, text []byte) ([]byte, error) {
	dataKey := make([]byte, dataKeySize)
	_, _ = rand.Read(dataKey) // never fails (crypto/rand)
	defer clear(dataKey)
	data, err := gcm(dataKey)
	if err != nil {
		return nil, err
	}
	prefix := append([]byte{sealVersion}, s.current.id[:]...)
	aad := additional(prefix, purpose, name)
	out := s.current.aead.Seal(prefix, nil, dataKey, aad)
	return data.Seal(out, nil, text, aad), nil
}

// open decrypts what seal made for the same purpose and name; else ErrSealed.
func (s *sealer) open(purpose, name string, sealed []byte) ([]byte, error) {
	if len(sealed) < sealPrefix+wrappedSize || sealed[0] != sealVersion {
		return nil, fmt.Errorf("%w: not of a form that this program knows", ErrSealed)
	}
	prefix, rest := sealed[:sealPrefix], sealed[sealPrefix:]
	aad := additional(prefix, purpose, name)
	for _, k := range s.all {
		if !bytes.Equal(k.id[:], prefix[1:]) {
			continue
		}
		dataKey, err := k.aead.Open(nil, nil, rest[:wrappedSize], aad)
		if err != nil {
			return nil, ErrSealed
		}
		defer clear(dataKey)
		data, err := gcm(dataKey)
		if err != nil {
			return nil, ErrSealed
		}
		text, err := data.Open(nil, nil, rest[wrappedSize:], aad)
		if err != nil {
			return nil, ErrSealed
		}
		return text, nil
	}
	return nil, fmt.Errorf("%w: it is sealed under a key that is not configured here", ErrSealed)
}

// additional is what is authenticated besides the text.
func additional(prefix []byte, purpose, name string) []byte {
	b := append([]byte(nil), prefix...)
	b = append(b, purpose...)
	b = append(b, 0)
	return append(b, name...)
}

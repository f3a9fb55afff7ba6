package credential

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/protobuf/proto"

	"github.com/exeat-dev/exeat/credential/record"
)

// Where the issuer's keys are in the store.
const (
	issuerBucket = "issuer"
	keysKey      = "keys" // sealed
	jwksKey      = "jwks" // public
)

const recordVersion = 1

var errRecord = errors.New("stored record is of a form that this program does not know")

// keySet is the issuer's keys, in the order in which they sign: old ones, the
// one that signs, and the next.
type keySet struct {
	generation int64
	keys       []signingKey
}

// signingKey signs from signsFrom until the next key does.
type signingKey struct {
	kid       string // RFC 7638 thumbprint, SHA-256
	private   *ecdsa.PrivateKey
	signsFrom time.Time
	retires   time.Time // zero while it has no successor
}

// signing gives the key that signs at now.
func (s keySet) signing(now time.Time) (signingKey, bool) {
	for _, k := range slices.Backward(s.keys) {
		if !now.Before(k.signsFrom) {
			return k, true
		}
	}
	return signingKey{}, false
}

// current reports whether a key signs at now and its successor is known. Only
// then is it known until when that key may sign.
func (s keySet) current(now time.Time) bool {
	_, ok := s.signing(now)
	return ok && s.keys[len(s.keys)-1].signsFrom.After(now)
}

// rotate adds the keys that are missing at now and drops those whose last token
// has expired; keep is how long an old key stays after it last signed.
func (s keySet) rotate(now time.Time, rotation, keep time.Duration) (keySet, error) {
	next := keySet{generation: s.generation + 1}
	for _, k := range s.keys {
		if k.retires.IsZero() || now.Before(k.retires) {
			next.keys = append(next.keys, k)
		}
	}
	for !next.current(now) {
		from := now
		if n := len(next.keys); n > 0 {
			from = now.Add(rotation)
			next.keys[n-1].retires = from.Add(keep)
		}
		k, err := newSigningKey(from)
		if err != nil {
			return keySet{}, err
		}
		next.keys = append(next.keys, k)
	}
	return next, nil
}

// newSigningKey makes a P-256 key (RFC 7518 section 3.4) named by its thumbprint.
func newSigningKey(from time.Time) (signingKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return signingKey{}, err
	}
	kid, err := thumbprint(&private.PublicKey)
	return signingKey{kid: kid, private: private, signsFrom: from}, err
}

// thumbprint names a key by what it is (RFC 7638).
func thumbprint(public *ecdsa.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	return base64.RawURLEncoding.EncodeToString(sum), err
}

// sign makes a compact JWS (RFC 7515 section 7.1) of the claims.
func (k signingKey) sign(typ string, claims any) (string, error) {
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	opts := (&jose.SignerOptions{}).WithType(jose.ContentType(typ))
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.ES256,
		Key:       jose.JSONWebKey{Key: k.private, KeyID: k.kid},
	}, opts)
	if err != nil {
		return "", err
	}
	token, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	return token.CompactSerialize()
}

// encode gives the bytes that are sealed; who asks for them clears them.
func (s keySet) encode() ([]byte, error) {
	r := &record.SigningKeys{Version: recordVersion, Generation: s.generation}
	for _, k := range s.keys {
		der, err := x509.MarshalPKCS8PrivateKey(k.private)
		if err != nil {
			return nil, err
		}
		r.Keys = append(r.Keys, &record.SigningKey{
			Kid: k.kid, Pkcs8: der, SignsFrom: nanos(k.signsFrom), Retires: nanos(k.retires),
		})
	}
	return proto.Marshal(r)
}

func decodeKeys(b []byte) (keySet, error) {
	var r record.SigningKeys
	if proto.Unmarshal(b, &r) != nil || r.GetVersion() != recordVersion {
		return keySet{}, errRecord
	}
	s := keySet{generation: r.GetGeneration()}
	for _, k := range r.GetKeys() {
		parsed, err := x509.ParsePKCS8PrivateKey(k.GetPkcs8())
		private, ok := parsed.(*ecdsa.PrivateKey)
		if err != nil || !ok {
			return keySet{}, fmt.Errorf("signing key %s: %w", k.GetKid(), errRecord)
		}
		s.keys = append(s.keys, signingKey{
			kid: k.GetKid(), private: private, signsFrom: fromNanos(k.GetSignsFrom()), retires: fromNanos(k.GetRetires()),
		})
	}
	return s, nil
}

// public encodes what everybody may read: old keys, the current one, the next.
func (s keySet) public() ([]byte, error) {
	var set jose.JSONWebKeySet
	for _, k := range s.keys {
		set.Keys = append(set.Keys, jose.JSONWebKey{
			Key: k.private.Public(), KeyID: k.kid, Algorithm: string(jose.ES256), Use: "sig",
		})
	}
	b, err := json.Marshal(set)
	if err != nil {
		return nil, err
	}
	return proto.Marshal(&record.PublicKeys{Version: recordVersion, Generation: s.generation, Jwks: b})
}

// generation of stored public keys; 0 of what cannot be read.
func generation(b []byte) int64 {
	var r record.PublicKeys
	if proto.Unmarshal(b, &r) != nil || r.GetVersion() != recordVersion {
		return 0
	}
	return r.GetGeneration()
}

// nanos and fromNanos keep a time in a record; the zero time is 0.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}

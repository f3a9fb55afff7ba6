package xds

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// BucketInterception is the store's bucket that holds the sealed CAs, by instance.
const BucketInterception = "interception"

// A sealed CA is: sealVersion, the day it was last used (32 bits, days since
// 1970, so that one that nobody uses can be found), nonce, AES-256-GCM.
const (
	sealVersion = 1
	sealHeader  = 1 + 4
)

// keepUnused is how long the CA of an instance that never connects is kept. One
// that comes back later gets another, and its agent's bundle with it.
const keepUnused = 30 * 24 * time.Hour

// bucket is what keeper needs of a store.Bucket.
type bucket interface {
	Get(ctx context.Context, key string) (store.Entry, error)
	List(ctx context.Context, prefix string) ([]store.Entry, error)
	Swap(ctx context.Context, key string, old int64, value []byte) (int64, error)
	Delete(ctx context.Context, key string, old int64) error
}

// keeper keeps each instance's CA in the store, sealed by the key that only role
// xds holds, so that every replica and every restart uses the same one.
type keeper struct {
	bucket bucket
	aead   cipher.AEAD
	now    func() time.Time
}

func newKeeper(b bucket, key [32]byte, now func() time.Time) (*keeper, error) {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, fmt.Errorf("interception key: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("interception key: %w", err)
	}
	return &keeper{bucket: b, aead: aead, now: now}, nil
}

// authority gives the instance's CA and makes it when there is none or its
// successor is due. Of two that make one at once, one wins and both use it.
func (k *keeper) authority(ctx context.Context, instance policy.Instance) (*authority, error) {
	for {
		entry, err := k.bucket.Get(ctx, string(instance))
		switch {
		case errors.Is(err, store.ErrNotFound):
			entry = store.Entry{}
		case err != nil:
			return nil, fmt.Errorf("interception CA: %w", err)
		default:
			a, err := k.open(instance, entry.Value)
			if err != nil {
				return nil, err
			}
			if !a.stale(k.now()) {
				k.used(ctx, entry)
				return a, nil
			}
		}
		a, err := newAuthority(instance, k.now())
		if err != nil {
			return nil, err
		}
		sealed, err := k.seal(instance, a)
		if err != nil {
			return nil, err
		}
		_, err = k.bucket.Swap(ctx, string(instance), entry.Revision, sealed)
		if errors.Is(err, store.ErrConflict) {
			continue // another made it; take that one
		}
		if err != nil {
			return nil, fmt.Errorf("interception CA: %w", err)
		}
		return a, nil
	}
}

// used notes, at most once a day, that the CA is in use. When it cannot be noted
// (another did, or the store takes no writes) there are weeks left to do it.
func (k *keeper) used(ctx context.Context, entry store.Entry) {
	if dayOf(entry.Value) >= day(k.now()) {
		return
	}
	value := bytes.Clone(entry.Value)
	binary.BigEndian.PutUint32(value[1:], day(k.now()))
	_, _ = k.bucket.Swap(ctx, entry.Key, entry.Revision, value)
}

// sweep deletes the CAs that nobody has used for long: `exeat run` makes an
// instance each time, and the store must not fill up with them.
func (k *keeper) sweep(ctx context.Context) error {
	entries, err := k.bucket.List(ctx, "")
	if err != nil {
		return fmt.Errorf("interception CAs: %w", err)
	}
	oldest := day(k.now().Add(-keepUnused))
	for _, e := range entries {
		if len(e.Value) < sealHeader || e.Value[0] != sealVersion || dayOf(e.Value) >= oldest {
			continue
		}
		if err := k.bucket.Delete(ctx, e.Key, e.Revision); err != nil && !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("interception CAs: %w", err)
		}
	}
	return nil
}

func day(t time.Time) uint32 { return uint32(t.Unix() / (24 * 60 * 60)) }

func dayOf(sealed []byte) uint32 { return binary.BigEndian.Uint32(sealed[1:]) }

// seal binds the CA to its instance: moved to another's key it does not open.
func (k *keeper) seal(instance policy.Instance, a *authority) ([]byte, error) {
	plain, err := a.marshal()
	if err != nil {
		return nil, err
	}
	n := sealHeader + k.aead.NonceSize()
	out := make([]byte, n, n+len(plain)+k.aead.Overhead())
	out[0] = sealVersion
	binary.BigEndian.PutUint32(out[1:], day(k.now()))
	if _, err := rand.Read(out[sealHeader:]); err != nil {
		return nil, fmt.Errorf("interception CA: nonce: %w", err)
	}
	return k.aead.Seal(out, out[sealHeader:], plain, sealedFor(instance)), nil
}

func (k *keeper) open(instance policy.Instance, sealed []byte) (*authority, error) {
	n := sealHeader + k.aead.NonceSize()
	if len(sealed) < n || sealed[0] != sealVersion {
		return nil, errors.New("interception CA: not in a form that this version reads")
	}
	plain, err := k.aead.Open(nil, sealed[sealHeader:n], sealed[n:], sealedFor(instance))
	if err != nil {
		return nil, errors.New("interception CA: sealed by another key, or damaged")
	}
	return parseAuthority(plain)
}

func sealedFor(instance policy.Instance) []byte {
	return []byte("exeat interception CA\x00" + string(instance))
}

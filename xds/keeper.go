package xds

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// BucketInterception is the store's bucket that holds the sealed CAs, by instance.
const BucketInterception = "interception"

// sealVersion is the first byte of a sealed CA: AES-256-GCM, nonce in front.
const sealVersion = 1

// bucket is what keeper needs of a store.Bucket.
type bucket interface {
	Get(ctx context.Context, key string) (store.Entry, error)
	Swap(ctx context.Context, key string, old int64, value []byte) (int64, error)
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

// seal binds the CA to its instance: moved to another's key it does not open.
func (k *keeper) seal(instance policy.Instance, a *authority) ([]byte, error) {
	plain, err := a.marshal()
	if err != nil {
		return nil, err
	}
	out := make([]byte, 1+k.aead.NonceSize(), 1+k.aead.NonceSize()+len(plain)+k.aead.Overhead())
	out[0] = sealVersion
	if _, err := rand.Read(out[1:]); err != nil {
		return nil, fmt.Errorf("interception CA: nonce: %w", err)
	}
	return k.aead.Seal(out, out[1:], plain, sealedFor(instance)), nil
}

func (k *keeper) open(instance policy.Instance, sealed []byte) (*authority, error) {
	n := k.aead.NonceSize()
	if len(sealed) < 1+n || sealed[0] != sealVersion {
		return nil, errors.New("interception CA: not in a form that this version reads")
	}
	plain, err := k.aead.Open(nil, sealed[1:1+n], sealed[1+n:], sealedFor(instance))
	if err != nil {
		return nil, errors.New("interception CA: sealed by another key, or damaged")
	}
	return parseAuthority(plain)
}

func sealedFor(instance policy.Instance) []byte {
	return []byte("exeat interception CA\x00" + string(instance))
}

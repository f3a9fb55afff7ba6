package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// keyBytes is the length of a sealing key: AES-256.
const keyBytes = 32

// openKey reads a key, or makes it where that is asked for: replicas share
// theirs, and one made by each would be many. It refuses a file that others can
// read: a key that may have been seen is no key.
func openKey(path string, create bool) ([keyBytes]byte, error) {
	var key [keyBytes]byte
	if create {
		if err := makeKey(path); err != nil {
			return key, err
		}
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return key, fmt.Errorf("%s is missing: make it once with `exeatd keygen %s` and give every process of the role the same", path, path)
	}
	if err != nil {
		return key, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return key, fmt.Errorf("%s has mode %04o and others may have read it: replace it, or `chmod 600` it if they cannot have", path, mode)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return key, err
	}
	if len(b) != keyBytes {
		return key, fmt.Errorf("%s holds %d bytes, want %d: restore it from a backup; what it sealed cannot be read without it", path, len(b), keyBytes)
	}
	return [keyBytes]byte(b), nil
}

// makeKey writes a new key unless there is one. The renaming makes it appear whole.
func makeKey(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	var key [keyBytes]byte
	if _, err := rand.Read(key[:]); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, key[:], 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// privateDir makes dir for this user alone and refuses a wider one.
func privateDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o but holds keys: `chmod 700 %s`", dir, mode, dir)
	}
	return nil
}

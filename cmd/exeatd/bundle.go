package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/exeat-dev/exeat/catalog"
)

// bundleSource is where policies come from, when not from the catalog's folder.
type bundleSource struct{ bundle, keys, ca string }

// open makes the source of policies; nil when there is none. Its errors name
// flags, each of which the file of exeatd serve has under catalog.policies.
func (b bundleSource) open(log *slog.Logger) (*catalog.Bundle, error) {
	if b.bundle == "" {
		if b.keys != "" || b.ca != "" {
			return nil, errors.New("--policy-keys and --policy-ca are about --policy-bundle, which is missing")
		}
		return nil, nil
	}
	cfg := catalog.BundleConfig{Source: b.bundle, Log: log}
	if b.keys != "" {
		text, err := os.ReadFile(b.keys)
		if err != nil {
			return nil, fmt.Errorf("--policy-keys: %w", err)
		}
		if cfg.Keys, err = catalog.BundleKeys(text); err != nil {
			return nil, fmt.Errorf("--policy-keys %s: %w", b.keys, err)
		}
	}
	if b.ca != "" {
		var err error
		if cfg.CA, err = os.ReadFile(b.ca); err != nil {
			return nil, fmt.Errorf("--policy-ca: %w", err)
		}
	}
	return catalog.NewBundle(cfg)
}

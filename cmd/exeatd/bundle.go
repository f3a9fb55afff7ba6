package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/exeat-dev/exeat/catalog"
)

// openBundle makes the source of policies that the flags name; nil when they
// name none.
func openBundle(o devOptions, log *slog.Logger) (*catalog.Bundle, error) {
	if o.policyBundle == "" {
		if o.policyKeys != "" || o.policyCA != "" {
			return nil, errors.New("--policy-keys and --policy-ca are about --policy-bundle, which is missing")
		}
		return nil, nil
	}
	cfg := catalog.BundleConfig{Source: o.policyBundle, Log: log}
	if o.policyKeys != "" {
		text, err := os.ReadFile(o.policyKeys)
		if err != nil {
			return nil, fmt.Errorf("--policy-keys: %w", err)
		}
		if cfg.Keys, err = catalog.BundleKeys(text); err != nil {
			return nil, fmt.Errorf("--policy-keys %s: %w", o.policyKeys, err)
		}
	}
	if o.policyCA != "" {
		var err error
		if cfg.CA, err = os.ReadFile(o.policyCA); err != nil {
			return nil, fmt.Errorf("--policy-ca: %w", err)
		}
	}
	return catalog.NewBundle(cfg)
}

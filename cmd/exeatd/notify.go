package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	"github.com/exeat-dev/exeat/grant"
)

// notifyOptions are the flags that say whom to tell of requests for approval.
type notifyOptions struct{ url, secretFile, format string }

func (o *notifyOptions) flags(f *pflag.FlagSet) {
	f.StringVar(&o.url, "notify-url", "", "webhook that is told of requests for approval (https, or http on loopback)")
	f.StringVar(&o.secretFile, "notify-secret-file", "", "file with the secret that signs notifications, this user's alone")
	f.StringVar(&o.format, "notify-format", grant.NotifyJSON, "json, or slack for one of its incoming webhooks")
}

// notifier is nil when nobody is to be told.
func (o notifyOptions) notifier(s *grant.Service, api string) (*grant.Notifier, error) {
	if o.url == "" && o.secretFile == "" {
		return nil, nil
	}
	if o.url == "" || o.secretFile == "" {
		return nil, errors.New("--notify-url and --notify-secret-file belong together; give both or none")
	}
	secret, err := readSecret(o.secretFile)
	if err != nil {
		return nil, fmt.Errorf("--notify-secret-file: %w", err)
	}
	n, err := grant.NewNotifier(s, grant.NotifierConfig{URL: o.url, Secret: secret, Format: o.format, Link: api})
	if err != nil {
		return nil, fmt.Errorf("--notify-url: %w", err)
	}
	return n, nil
}

// readSecret refuses a file that others can read.
func readSecret(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %04o and others may have read it: make a new secret, and `chmod 600` its file", name, mode)
	}
	b, err := os.ReadFile(name)
	return bytes.TrimSpace(b), err
}

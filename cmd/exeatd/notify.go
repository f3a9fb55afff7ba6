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
	cfg, err := o.config()
	if err != nil || cfg == nil {
		return nil, err
	}
	cfg.Link = api
	return grant.NewNotifier(s, *cfg)
}

// config checks the options; nil when there are none.
func (o notifyOptions) config() (*grant.NotifierConfig, error) {
	if o.url == "" && o.secretFile == "" {
		return nil, nil
	}
	if o.url == "" || o.secretFile == "" {
		return nil, errors.New("notifications need a URL and the file of a secret; give both or none")
	}
	secret, err := readSecret(o.secretFile)
	if err != nil {
		return nil, fmt.Errorf("the secret that signs notifications: %w", err)
	}
	cfg := &grant.NotifierConfig{URL: o.url, Secret: secret, Format: o.format}
	return cfg, cfg.Check()
}

// notify checks whom to tell, which is the API's to do.
func (c *config) notify(s *settings) {
	f := c.file.Notify
	if !c.roles.has(roleAPI) {
		return
	}
	s.notify = notifyOptions{url: f.URL, secretFile: f.SecretFile, format: f.Format}
	if _, err := s.notify.config(); err != nil {
		c.fail("notify", "%v", err)
	}
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

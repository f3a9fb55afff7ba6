package catalog

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// fetchTimeout bounds one download.
const fetchTimeout = 20 * time.Second

// remote is a bundle behind a URL.
type remote struct {
	cfg    BundleConfig
	client *http.Client
	next   time.Time // of the next look
	etag   string    // of what files and errs were made of
	// files that were good last; errs of what was there last.
	files []file
	errs  Errors
}

func newRemote(cfg BundleConfig) (*remote, error) {
	if cfg.Interval <= 0 {
		cfg.Interval = 30 * time.Second
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12}}
	if cfg.CA != nil {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(cfg.CA) {
			return nil, errors.New("policy bundle: the CA file holds no certificate in PEM")
		}
		transport.TLSClientConfig.RootCAs = pool
	}
	secure := strings.HasPrefix(cfg.Source, "https://")
	return &remote{cfg: cfg, client: &http.Client{Transport: transport, Timeout: fetchTimeout,
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if secure && r.URL.Scheme != "https" || len(via) > 5 {
				return errors.New("it redirects away from https, or too often")
			}
			return nil
		}}}, nil
}

// modules looks at the URL when it is time to. One that cannot be reached
// leaves what was there last.
func (r *remote) modules(ctx context.Context, read func([]byte) ([]file, Errors)) ([]file, Errors) {
	now := r.cfg.Clock()
	if now.Before(r.next) {
		return r.files, r.errs
	}
	packed, etag, err := r.fetch(ctx)
	if ctx.Err() != nil {
		return r.files, r.errs
	}
	r.next = now.Add(r.cfg.Interval)
	switch {
	case err != nil && r.etagless():
		return nil, Errors{{File: named(r.cfg.Source), Message: "the policy bundle cannot be fetched: " + err.Error()}}
	case err != nil:
		r.cfg.Log.WarnContext(ctx, "the policy bundle cannot be fetched; what was there last stays", "error", err)
	case packed != nil:
		files, errs := read(packed)
		r.etag, r.errs = etag, errs
		if errs == nil {
			r.files = files
		}
	}
	return r.files, r.errs
}

// etagless reports whether nothing was ever fetched.
func (r *remote) etagless() bool { return r.files == nil && r.errs == nil }

// fetch downloads the bundle; nil when it is what it was (RFC 9110 section
// 13.1.2).
func (r *remote) fetch(ctx context.Context) (packed []byte, etag string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.cfg.Source, nil)
	if err != nil {
		return nil, "", err
	}
	if r.etag != "" {
		req.Header.Set("If-None-Match", r.etag)
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, "", plain(err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && r.etag != "":
		return nil, r.etag, nil
	case resp.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("the server answers %d", resp.StatusCode)
	}
	packed, err = io.ReadAll(io.LimitReader(resp.Body, maxBundle+1))
	return packed, resp.Header.Get("ETag"), plain(err)
}

// plain leaves out the URL, which may hold a password.
func plain(err error) error {
	var at *url.Error
	if errors.As(err, &at) {
		return at.Err
	}
	return err
}

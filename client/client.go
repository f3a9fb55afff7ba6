package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Environment variables that `exeat run` sets for its command.
const (
	EnvURL            = "EXEAT_URL"
	EnvTask           = "EXEAT_TASK"
	EnvTaskCredential = "EXEAT_TASK_CREDENTIAL"
)

const (
	headerCredential = "Exeat-Task-Credential"
	maxAnswer        = 8 << 20 // bytes
	// slack is how much longer than asked for a long poll may take.
	slack = 15 * time.Second
)

// Client speaks to the API. It may be used by many at once.
type Client struct {
	base       string
	http       *http.Client
	credential Secret
	token      Secret
}

// Option changes how a Client works.
type Option func(*Client)

// WithHTTPClient sends through hc, which must not follow HTTP_PROXY when the
// URL is the sidecar's.
func WithHTTPClient(hc *http.Client) Option { return func(c *Client) { c.http = hc } }

// WithTaskCredential acts within the task of that credential.
func WithTaskCredential(credential Secret) Option {
	return func(c *Client) { c.credential = credential }
}

// WithToken speaks as the person of that ID token (OpenID Connect Core 1.0
// section 2).
func WithToken(token Secret) Option { return func(c *Client) { c.token = token } }

// New makes a Client of the API at a URL such as EXEAT_URL.
func New(baseURL string, options ...Option) (*Client, error) {
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("client: the URL must be that of the API, such as http://127.0.0.1:15000")
	}
	if u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Path != "" && u.Path != "/" {
		return nil, errors.New("client: the URL has only a scheme, a host and a port")
	}
	c := &Client{base: u.Scheme + "://" + u.Host, http: direct(nil)}
	for _, option := range options {
		option(c)
	}
	return c, nil
}

// NewLocal makes a Client for the operator of an exeatd, at its Unix socket.
func NewLocal(socket string, options ...Option) (*Client, error) {
	if socket == "" {
		return nil, errors.New("client: the path of the socket is missing")
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	// The host is not looked up: there is only one at the other end.
	return New("http://exeat", append([]Option{WithHTTPClient(direct(dial))}, options...)...)
}

// FromEnv makes a Client from what `exeat run` gives its command.
func FromEnv(options ...Option) (*Client, error) {
	base := os.Getenv(EnvURL)
	if base == "" {
		return nil, errors.New("client: EXEAT_URL is not set; run this under `exeat run`")
	}
	credential := NewSecret(os.Getenv(EnvTaskCredential))
	return New(base, append([]Option{WithTaskCredential(credential)}, options...)...)
}

// NewRemote makes a Client of an exeatd that people reach over TLS, such as
// Endpoints.API. caPEM verifies it; empty: the system's roots do.
func NewRemote(baseURL string, caPEM []byte, options ...Option) (*Client, error) {
	hc := direct(nil)
	if len(caPEM) > 0 {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(caPEM) {
			return nil, errors.New("client: the CA file holds no certificate in PEM")
		}
		hc.Transport.(*http.Transport).TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if !strings.HasPrefix(baseURL, "https://") {
		return nil, errors.New("client: people's tokens go over https alone")
	}
	return New(baseURL, append([]Option{WithHTTPClient(hc)}, options...)...)
}

// ForTask gives a Client that acts within the task with that credential.
func (c *Client) ForTask(credential Secret) *Client {
	bound := *c
	bound.credential = credential
	return &bound
}

// Close closes connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// direct is an HTTP client that no proxy variable and no redirect leads
// elsewhere: a task's credential goes to the API alone.
func direct(dial func(context.Context, string, string) (net.Conn, error)) *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext: dial, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 4,
			IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 10 * time.Second,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// call is one request; out may be nil.
type call struct {
	method, path string
	query        url.Values
	in, out      any
	wait         time.Duration // how long the server was asked to hold the answer
}

func (c *Client) do(ctx context.Context, r call) error {
	if r.wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.wait+slack)
		defer cancel()
	}
	req, err := c.request(ctx, r)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("client: the API cannot be reached: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("client: the API's answer broke off: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return problemOf(resp.StatusCode, body)
	}
	if err := json.Unmarshal(body, r.out); err != nil {
		return errors.New("client: the API's answer is not what was expected; check EXEAT_URL and versions")
	}
	return nil
}

func (c *Client) request(ctx context.Context, r call) (*http.Request, error) {
	var body io.Reader
	if r.in != nil {
		b, err := json.Marshal(r.in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, err
	}
	if r.in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if !c.token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+c.token.Expose())
	}
	if !c.credential.IsZero() {
		req.Header.Set(headerCredential, c.credential.Expose())
	}
	return req, nil
}

package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
)

// Tickets is where the agents of the example find their tickets.
const Tickets = "https://tickets.example.org/v1/tickets/"

// Client is an ordinary HTTP client through a proxy, which trusts one CA file.
func Client(t testing.TB, proxy *url.URL, caFile string) *http.Client {
	t.Helper()
	pem, err := os.ReadFile(caFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		t.Fatalf("%s holds no certificate", caFile)
	}
	transport := &http.Transport{
		Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// Reply is an answer that was read whole.
type Reply struct {
	Status int
	Proto  string // HTTP/1.1 or HTTP/2.0
	Header http.Header
	Body   []byte
	Err    error
}

// Do sends one request.
func Do(t testing.TB, c *http.Client, method, target string, change ...func(*http.Request)) Reply {
	t.Helper()
	req, err := http.NewRequestWithContext(Context(t), method, target, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := c.Do(req)
	if err != nil {
		return Reply{Err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Reply{Status: resp.StatusCode, Proto: resp.Proto, Header: resp.Header, Body: body, Err: err}
}

// Get is Do with GET.
func Get(t testing.TB, c *http.Client, target string, change ...func(*http.Request)) Reply {
	t.Helper()
	return Do(t, c, http.MethodGet, target, change...)
}

// Denial is what a denied call is answered with.
type Denial struct {
	Type, Title, Reason, Decision, Retry string
	Status                               int
	Call                                 struct{ Method, URL string }
	Next                                 []client.Next
}

// Denial reads the reply as one; it is empty when it is something else.
func (r Reply) Denial() Denial {
	var d Denial
	if json.Unmarshal(r.Body, &d) != nil {
		return Denial{}
	}
	return d
}

// WantOK fails unless the call came through.
func WantOK(t testing.TB, r Reply) {
	t.Helper()
	if r.Err != nil || r.Status != http.StatusOK {
		t.Fatalf("got %d %s %v, want 200", r.Status, r.Body, r.Err)
	}
}

// WantDenied fails unless the call was denied for that reason, in our words.
func WantDenied(t testing.TB, r Reply, reason string) Denial {
	t.Helper()
	d := r.Denial()
	if r.Err != nil || r.Status < 400 || d.Reason != reason {
		t.Fatalf("got %d %s %v, want a denial with reason %s", r.Status, r.Body, r.Err, reason)
	}
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("the denial's content type is %q", got)
	}
	return d
}

// statusOf is the status that a URL answers with; 0 when it does not.
func statusOf(url string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

package stack

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Mirror is an upstream that keeps all that reaches it. It answers everything
// with 200, and goes on answering for as long as the call lasts where the path
// ends in /stream.
type Mirror struct {
	Host, Address string
	CAPEM         []byte

	mu      sync.Mutex
	seen    []*Arrival
	bytes   bytes.Buffer // of HTTP/1 as it came, without TLS
	conns   int
	changed chan struct{} // closed at the next change
}

// Arrival is one request as it reached a Mirror.
type Arrival struct {
	Method, Target, Host, Proto string // Target is as on the wire
	Header, Trailer             http.Header
	Body                        []byte
	Ended                       bool // the answer is over
	At                          time.Time
}

// NewMirror starts one that shows a certificate for host, and speaks HTTP/2
// alone or HTTP/1.1 alone.
func NewMirror(t testing.TB, host string, http2 bool) *Mirror {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &Mirror{Host: host, Address: l.Addr().String(), changed: make(chan struct{})}
	cert := m.certify(t)
	server := &http.Server{Handler: m, ReadHeaderTimeout: Patience}
	done := make(chan struct{})
	t.Cleanup(func() { _ = server.Close(); <-done })
	go func() {
		defer close(done)
		if http2 {
			server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"h2"}}
			_ = server.ServeTLS(counting{l, m}, "", "")
			return
		}
		// Above TLS, so that what is kept is what was said.
		_ = server.Serve(keeping{tls.NewListener(counting{l, m}, &tls.Config{
			Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"},
		}), m})
	}()
	return m
}

// certify makes a CA and signs one certificate by it.
func (m *Mirror) certify(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now().Add(-time.Hour)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "CA of " + m.Host}, NotBefore: from, NotAfter: from.Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: m.Host}, NotBefore: from, NotAfter: ca.NotAfter,
		DNSNames: []string{m.Host}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	// One key for both: it lives as long as the test.
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	m.CAPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}
}

// ServeHTTP keeps the request as soon as its headers are there.
func (m *Mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	seen := &Arrival{Method: r.Method, Target: r.RequestURI, Host: r.Host, Proto: r.Proto, Header: r.Header.Clone(), At: time.Now()}
	m.change(func() { m.seen = append(m.seen, seen) })
	defer m.change(func() { seen.Ended = true })
	if strings.HasSuffix(r.URL.Path, "/stream") {
		stream(w, r.Context())
		return
	}
	body, err := io.ReadAll(r.Body)
	m.change(func() { seen.Body, seen.Trailer = body, r.Trailer.Clone() })
	if err == nil {
		w.Header().Set("Content-Type", "text/plain")
		fmt.Fprint(w, "mirrored\n")
	}
}

func stream(w http.ResponseWriter, ctx context.Context) {
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := fmt.Fprint(w, "data: x\n\n"); err != nil || flush.Flush() != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (m *Mirror) change(fn func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fn()
	close(m.changed)
	m.changed = make(chan struct{})
}

// Seen lists the requests so far.
func (m *Mirror) Seen() []Arrival {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.copied()
}

func (m *Mirror) copied() []Arrival {
	out := make([]Arrival, len(m.seen))
	for i, s := range m.seen {
		out[i] = *s
	}
	return out
}

// Bytes is what came over HTTP/1 so far, all connections one after another.
func (m *Mirror) Bytes() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.bytes.Bytes())
}

// Conns counts the connections so far.
func (m *Mirror) Conns() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.conns
}

// Await returns the requests once cond holds of them.
func (m *Mirror) Await(t testing.TB, what string, cond func([]Arrival) bool) []Arrival {
	t.Helper()
	late := time.NewTimer(Patience)
	defer late.Stop()
	for {
		m.mu.Lock()
		seen, changed := m.copied(), m.changed
		m.mu.Unlock()
		if cond(seen) {
			return seen
		}
		select {
		case <-late.C:
			t.Fatalf("waited in vain for %s at %s", what, m.Host)
		case <-changed:
		}
	}
}

// counting counts what is accepted.
type counting struct {
	net.Listener
	m *Mirror
}

func (l counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.m.change(func() { l.m.conns++ })
	}
	return c, err
}

// keeping keeps what is read.
type keeping struct {
	net.Listener
	m *Mirror
}

func (l keeping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return keptConn{c, l.m}, err
}

type keptConn struct {
	net.Conn
	m *Mirror
}

func (c keptConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.m.change(func() { c.m.bytes.Write(b[:n]) })
	return n, err
}

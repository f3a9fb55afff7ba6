package stack

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Dial connects to an address; the test's end closes it, patience bounds it.
func Dial(t testing.TB, address string) net.Conn {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, Patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(Patience))
	return conn
}

// ProxyAuthorization is the value that opens the task's room.
func (k *Task) ProxyAuthorization() string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(k.ID+":"+k.Credential.Expose()))
}

// Connect asks the task's sidecar for a tunnel, in these very bytes for the
// target, and returns the connection with the answer's status.
func (k *Task) Connect(t testing.TB, target string) (net.Conn, Reply) {
	t.Helper()
	conn := Dial(t, k.Sidecar.Proxy)
	r := Exchange(conn, http.MethodConnect, fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n",
		target, target, k.ProxyAuthorization()))
	return conn, r
}

// Tunnel is Connect that must come through.
func (k *Task) Tunnel(t testing.TB, target string) net.Conn {
	t.Helper()
	conn, r := k.Connect(t, target)
	if r.Err != nil || r.Status != http.StatusOK {
		t.Fatalf("CONNECT %s: %d %s %v", target, r.Status, r.Body, r.Err)
	}
	return conn
}

// TLS speaks TLS through a tunnel to host:443. The server's name is sni, which
// is not sent when it is empty. What it trusts is tested elsewhere.
func (k *Task) TLS(t testing.TB, host, sni string, protocols ...string) (*tls.Conn, error) {
	t.Helper()
	conn := tls.Client(k.Tunnel(t, host+":443"), &tls.Config{ServerName: sni, InsecureSkipVerify: true, NextProtos: protocols})
	return conn, conn.Handshake()
}

// Secure is TLS that must come through.
func (k *Task) Secure(t testing.TB, host, sni string, protocols ...string) *tls.Conn {
	t.Helper()
	conn, err := k.TLS(t, host, sni, protocols...)
	if err != nil {
		t.Fatalf("TLS for %q to %s: %v", sni, host, err)
	}
	return conn
}

// Exchange writes these bytes and reads one answer, which is to a request of
// this method.
func Exchange(conn net.Conn, method, request string) Reply {
	if _, err := io.WriteString(conn, request); err != nil {
		return Reply{Err: err}
	}
	return ReadReply(bufio.NewReader(onebyte{conn}), method)
}

// onebyte keeps a reader from taking what comes after the answer.
type onebyte struct{ io.Reader }

func (r onebyte) Read(b []byte) (int, error) {
	if len(b) > 1 {
		b = b[:1]
	}
	return r.Reader.Read(b)
}

// ReadReply reads one answer to its end.
func ReadReply(from *bufio.Reader, method string) Reply {
	resp, err := http.ReadResponse(from, &http.Request{Method: method})
	if err != nil {
		return Reply{Err: err}
	}
	defer resp.Body.Close()
	out := Reply{Status: resp.StatusCode, Header: resp.Header}
	if method != http.MethodConnect || resp.StatusCode != http.StatusOK {
		out.Body, out.Err = io.ReadAll(resp.Body)
	}
	return out
}

// H2 is HTTP/2 by its frames, for what no client library would send.
type H2 struct {
	framer *http2.Framer
	block  bytes.Buffer
	coder  *hpack.Encoder
	next   uint32
}

// NewH2 opens HTTP/2 on a connection (RFC 9113 section 3.4).
func NewH2(t testing.TB, conn net.Conn) *H2 {
	t.Helper()
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	h := &H2{framer: http2.NewFramer(conn, conn), next: 1}
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.coder = hpack.NewEncoder(&h.block)
	if err := h.framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return h
}

// Field is one header.
type Field struct{ Name, Value string }

// Request is the pseudo-headers of a request, in their order.
func Request(method, scheme, authority, path string, more ...Field) []Field {
	return append([]Field{{":method", method}, {":scheme", scheme}, {":authority", authority}, {":path", path}}, more...)
}

// Message is a request by its frames. Without body and trailer its headers end it.
type Message struct {
	Headers []Field
	Body    []byte
	// EmptyData ends a message without a body by an empty frame of data.
	EmptyData bool
	Trailer   []Field
}

// Do sends a message and reads its answer.
func (h *H2) Do(m Message) Reply {
	id := h.next
	h.next += 2
	data := m.Body != nil || m.EmptyData
	if err := h.headers(id, m.Headers, !data && m.Trailer == nil); err != nil {
		return Reply{Err: err}
	}
	if data {
		if err := h.framer.WriteData(id, m.Trailer == nil, m.Body); err != nil {
			return Reply{Err: err}
		}
	}
	if m.Trailer != nil {
		if err := h.headers(id, m.Trailer, true); err != nil {
			return Reply{Err: err}
		}
	}
	return h.answer(id)
}

func (h *H2) headers(id uint32, fields []Field, end bool) error {
	h.block.Reset()
	for _, f := range fields {
		if err := h.coder.WriteField(hpack.HeaderField{Name: f.Name, Value: f.Value}); err != nil {
			return err
		}
	}
	return h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block.Bytes(), EndStream: end, EndHeaders: true})
}

// answer reads frames to the end of the stream.
func (h *H2) answer(id uint32) Reply {
	r := Reply{Header: http.Header{}}
	for {
		f, err := h.framer.ReadFrame()
		if err != nil {
			r.Err = err
			return r
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = h.framer.WriteSettingsAck() // if it cannot be written, nor can it be read on
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID == id {
				r.take(f)
			}
		case *http2.DataFrame:
			if f.StreamID == id {
				r.Body = append(r.Body, f.Data()...)
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				if r.Status == 0 {
					r.Err = fmt.Errorf("stream reset: %s", f.ErrCode)
				}
				return r
			}
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo {
				r.Err = errors.New("connection refused: " + f.ErrCode.String())
				return r
			}
		}
		if head := f.Header(); head.StreamID == id && head.Flags.Has(http2.FlagDataEndStream) &&
			(head.Type == http2.FrameData || head.Type == http2.FrameHeaders) {
			return r
		}
	}
}

func (r *Reply) take(f *http2.MetaHeadersFrame) {
	for _, h := range f.Fields {
		if h.Name == ":status" {
			r.Status, _ = strconv.Atoi(h.Value) // 0 is no status, and so no success
		} else if !strings.HasPrefix(h.Name, ":") {
			r.Header.Add(h.Name, h.Value)
		}
	}
}

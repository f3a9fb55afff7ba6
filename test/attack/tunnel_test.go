package attack

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// bait is a server on loopback that nobody should ever reach.
func bait(t *testing.T) (address string, reached *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	reached = &atomic.Int64{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String(), reached
}

// The agent uses its proxy as a proxy: to this machine, to the cloud's metadata,
// to exeatd, to a port that no destination has. The defence: the tunnel ends in
// the room whatever CONNECT says, and what comes out of the room goes to granted
// destinations alone.
func TestTheAgentConnectsToWhatIsNoDestination(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	address, reached := bait(t)
	port := portOf(address)
	metrics := strings.TrimPrefix(s.Endpoints.Metrics, "http://")
	exeatd := stack.Dial(t, metrics) // it is there to be reached
	stack.WantOK(t, stack.Exchange(exeatd, http.MethodGet, get(metrics, "/livez")))

	byAddress, unknown := refused{http.StatusBadRequest, "malformed_call"}, refused{http.StatusForbidden, "unknown_destination"}
	for target, want := range map[string]refused{
		address: byAddress, "127.1:" + port: byAddress, "2130706433:" + port: byAddress, "0x7f.1:" + port: byAddress, "[::ffff:127.0.0.1]:" + port: byAddress,
		"[::1]:" + port: byAddress, "0.0.0.0:" + port: byAddress, "169.254.169.254:80": byAddress, "[fd00:ec2::254]:80": byAddress,
		metrics: byAddress, s.Endpoints.GRPC: byAddress, strings.TrimPrefix(s.Endpoints.API, "https://"): byAddress,
		strings.TrimPrefix(s.sidecar.Status.API, "http://"): byAddress, s.sidecar.Proxy: byAddress, s.mirror.Address: byAddress,
		"localhost:" + port: unknown, "metadata.google.internal:80": unknown, mirrorHost + ":8443": unknown, mirrorHost + ":80": unknown, "nowhere.example.org:443": unknown,
	} {
		t.Run(target, func(t *testing.T) {
			s.onlyControl(t, func() {
				// In clear text, within a tunnel and as a request to the proxy.
				want.check(t, stack.Exchange(s.task.Tunnel(t, target), http.MethodGet, get(target, granted)))
				r := stack.Exchange(stack.Dial(t, s.sidecar.Proxy), http.MethodGet,
					get(target, "http://"+target+granted, stack.Field{Name: "Proxy-Authorization", Value: s.task.ProxyAuthorization()}))
				want.check(t, r)
				// With something that is neither TLS nor HTTP.
				refused{http.StatusBadRequest, ""}.check(t, stack.Exchange(s.task.Tunnel(t, target), http.MethodGet, "SSH-2.0-x\r\n\r\n"))
				// With TLS, to that name where it is one.
				conn := s.inTLS(t, target)
				want.check(t, stack.Exchange(conn, http.MethodGet, get(target, granted)))
			})
			if reached.Load() != 0 {
				t.Error("it was reached")
			}
		})
	}
	for _, target := range []string{"unix:" + filepath.Join(s.sidecar.RunDir, "admin.sock"), "unix://" + filepath.Join(s.sidecar.RunDir, "identity.sock"), "@admin:0", "/", "*", "", ":443", "room/" + s.task.ID + ":443", "api_internal:80", "exeat:443"} {
		t.Run("CONNECT "+strings.ReplaceAll(target, "/", "_"), func(t *testing.T) {
			s.onlyControl(t, func() {
				conn, r := s.task.Connect(t, target)
				if r.Status != http.StatusOK { // it is no authority, and Envoy says so
					refused{http.StatusBadRequest, "malformed_call"}.check(t, r)
					return
				}
				r = stack.Exchange(conn, http.MethodGet, get(mirrorHost, "/listeners"))
				unknown.check(t, r)
			})
		})
	}
	t.Run("a tunnel within a tunnel", func(t *testing.T) {
		nested := fmt.Sprintf("CONNECT %s HTTP/1.1\r\nHost: %s\r\nProxy-Authorization: %s\r\n\r\n", address, address, s.task.ProxyAuthorization())
		s.onlyControl(t, func() {
			for _, conn := range []net.Conn{s.task.Tunnel(t, mirrorHost+":443"), s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1")} {
				if r := stack.Exchange(conn, http.MethodConnect, nested); r.Err != nil || r.Status < 400 {
					t.Errorf("answered %d %s %v", r.Status, r.Body, r.Err)
				}
			}
			h2 := stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2"))
			r := h2.Do(stack.Message{Headers: []stack.Field{{Name: ":method", Value: "CONNECT"}, {Name: ":authority", Value: mirrorHost + ":443"}}, Body: []byte("x")})
			if r.Err == nil && r.Status < 400 {
				t.Errorf("HTTP/2: answered %d %s", r.Status, r.Body)
			}
		})
		if reached.Load() != 0 {
			t.Error("it was reached")
		}
	})
	t.Run("bytes behind CONNECT", func(t *testing.T) { s.glued(t) })
	t.Run("the granted call in clear text", func(t *testing.T) { s.inClear(t) })
}

// inClear makes the granted call without TLS, in every way there is.
func (s *scene) inClear(t *testing.T) {
	t.Helper()
	s.onlyControl(t, func() {
		for _, authority := range []string{mirrorHost, mirrorHost + ":443"} {
			for _, conn := range []net.Conn{s.task.Tunnel(t, mirrorHost+":443"), s.task.Tunnel(t, mirrorHost+":80")} {
				r := stack.Exchange(conn, http.MethodGet, get(authority, granted))
				if d := r.Denial(); r.Status < 400 || d.Reason != "unknown_destination" && d.Reason != "malformed_call" {
					t.Errorf("answered %d %s", r.Status, r.Body)
				}
			}
			h2 := stack.NewH2(t, s.task.Tunnel(t, mirrorHost+":443"))
			for _, scheme := range []string{"http", "https"} {
				if r := h2.Do(stack.Message{Headers: stack.Request(http.MethodGet, scheme, authority, granted)}); r.Err != nil || r.Status < 400 {
					t.Errorf("HTTP/2: answered %d %s %v", r.Status, r.Body, r.Err)
				}
			}
			// An absolute form that says https is clear text all the same.
			absolute := get(authority, "https://"+authority+granted, stack.Field{Name: "Proxy-Authorization", Value: s.task.ProxyAuthorization()})
			for _, conn := range []net.Conn{stack.Dial(t, s.sidecar.Proxy), s.task.Tunnel(t, mirrorHost+":443")} {
				refused{http.StatusBadRequest, "malformed_call"}.check(t, stack.Exchange(conn, http.MethodGet, absolute))
			}
		}
	})
}

// inTLS speaks TLS in a tunnel to this very target. An address is no name to ask
// for (RFC 6066 section 3), and clients send none then.
func (s *scene) inTLS(t *testing.T, target string) net.Conn {
	t.Helper()
	host := target[:strings.LastIndex(target, ":")]
	if strings.Trim(host, "0123456789abcdefx.:[]") == "" {
		host = ""
	}
	conn := tls.Client(s.task.Tunnel(t, target), &tls.Config{ServerName: host, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err := conn.Handshake(); err != nil {
		t.Fatalf("TLS for %q in a tunnel to %s: %v", host, target, err)
	}
	return conn
}

// glued writes into a tunnel before anybody said that there is one. Envoy refuses
// that when it sees it in time, and when the room opened first the bytes are in
// the room: there they are answered as they are by a tunnel that stands.
func (s *scene) glued(t *testing.T) {
	t.Helper()
	head := fmt.Sprintf("CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nProxy-Authorization: %s\r\n\r\n", mirrorHost, mirrorHost, s.task.ProxyAuthorization())
	s.onlyControl(t, func() {
		for name, bytes := range map[string]string{"the granted call": get(mirrorHost, granted), "no TLS": "\x16\x03\x01\x00\x05hello", "another CONNECT": head} {
			within := stack.Exchange(s.task.Tunnel(t, mirrorHost+":443"), http.MethodGet, bytes)
			if within.Err != nil || within.Status < 400 {
				t.Errorf("%s in a tunnel: answered %d %s %v", name, within.Status, within.Body, within.Err)
			}
			for range 8 { // both happen, by turns
				conn := stack.Dial(t, s.sidecar.Proxy)
				r := stack.Exchange(conn, http.MethodConnect, head+bytes)
				if r.Status != http.StatusOK {
					refused{http.StatusBadRequest, "malformed_call"}.check(t, r)
					continue
				}
				refused{within.Status, within.Denial().Reason}.check(t, stack.Exchange(conn, http.MethodGet, ""))
			}
		}
	})
}

// The agent writes one message that its sidecar and the upstream would take for
// different ones, with a call that is not granted hidden in it. The defence: what
// Envoy is not sure about it refuses, and what goes out Envoy wrote anew.
func TestTheAgentSmugglesACall(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	s.grant(t, "write-item")
	hidden := "GET /v1/items/OPS-43 HTTP/1.1\r\nHost: " + mirrorHost + "\r\n\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(hidden), hidden)
	post := func(headers, body string) string {
		return "POST " + granted + " HTTP/1.1\r\nHost: " + mirrorHost + "\r\n" + headers + "\r\n\r\n" + body
	}
	length := fmt.Sprintf("Content-Length: %d", len(hidden))
	// What is not refused by 400 is not believed to be anything else than it is.
	answered := map[string][]string{
		"an unknown encoding": {"501 "}, "an encoding after chunks": {"501 "}, "chunks twice": {"501 "},
		"an upgrade to HTTP/2":   {"200 "}, // not taken: it is a body, and that is granted
		"behind what is granted": {"200 ", "403 call_not_granted"},
	}
	for name, message := range map[string]string{
		"length and chunks":              post("Content-Length: 4\r\nTransfer-Encoding: chunked", chunk),
		"chunks and length":              post("Transfer-Encoding: chunked\r\n"+length, "0\r\n\r\n"+hidden),
		"two lengths":                    post("Content-Length: 0\r\n"+length, hidden),
		"two lengths in one line":        post("Content-Length: 0, 60", hidden),
		"the same length twice":          post(length+"\r\n"+length, hidden),
		"a signed length":                post("Content-Length: +0", hidden),
		"a negative length":              post("Content-Length: -1", hidden),
		"a length in hexadecimal":        post("Content-Length: 0x0", hidden),
		"a length too large":             post("Content-Length: 18446744073709551616", hidden),
		"an unknown encoding":            post("Transfer-Encoding: xchunked", chunk),
		"an encoding after chunks":       post("Transfer-Encoding: chunked, identity", chunk),
		"chunks twice":                   post("Transfer-Encoding: chunked, chunked", chunk),
		"identity":                       post("Transfer-Encoding: identity\r\nContent-Length: 0", hidden),
		"chunks behind a vertical tab":   post("Transfer-Encoding: \vchunked", chunk),
		"an encoding behind a blank":     post("Transfer-Encoding : chunked", chunk),
		"an encoding in another name":    post("Transfer_Encoding: chunked\r\nContent-Length: 0", hidden),
		"a chunk's size that is signed":  post("Transfer-Encoding: chunked", "-1\r\n"+hidden),
		"a chunk's size that overflows":  post("Transfer-Encoding: chunked", "10000000000000001\r\nx\r\n0\r\n\r\n"+hidden),
		"a chunk's size in another base": post("Transfer-Encoding: chunked", "0x5\r\nhello\r\n0\r\n\r\n"+hidden),
		"a chunk that is longer":         post("Transfer-Encoding: chunked", "1\r\nhello\r\n0\r\n\r\n"+hidden),
		"a chunk behind a line feed":     post("Transfer-Encoding: chunked", "5\nhello\r\n0\r\n\r\n"+hidden),
		"a chunk before a line feed":     post("Transfer-Encoding: chunked", "5\r\nhello\n0\r\n\r\n"+hidden),
		"an extension's line feed":       post("Transfer-Encoding: chunked", "5;a\nhello\r\n0\r\n\r\n"+hidden),
		"an extension's carriage return": post("Transfer-Encoding: chunked", "5;a\rb\r\nhello\r\n0\r\n\r\n"+hidden),
		"an upgrade to HTTP/2":           post("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"+length, hidden),
		"behind what is granted":         get(mirrorHost, granted, stack.Field{Name: "X-Item-Version", Value: "control"}) + hidden,
	} {
		t.Run(name, func(t *testing.T) {
			want := answered[name]
			if want == nil {
				want = []string{"400 "}
			}
			before, raw := len(s.mirror.Seen()), len(s.mirror.Bytes())
			if got := converse(t, s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), message, len(want)); !slices.Equal(got, want) {
				t.Errorf("answered %q, want %q", got, want)
			}
			// What the mirror had to read, it has read before it answers this.
			stack.WantOK(t, stack.Get(t, s.task.HTTP(t), itemAt(s.mirror)))
			seen, wire := s.mirror.Seen()[before:], s.mirror.Bytes()[raw:]
			carried := strings.HasPrefix(want[0], "200")
			if carried && (len(seen) != 2 || seen[0].Target != granted || seen[0].Header["Upgrade"] != nil || seen[0].Header["Connection"] != nil) {
				t.Errorf("the upstream saw %+v", seen)
			}
			if carried && seen[0].Method == http.MethodPost && string(seen[0].Body) != hidden {
				t.Errorf("the upstream saw the body %q", seen[0].Body)
			}
			if !carried && (len(seen) != 1 || strings.Count(string(wire), "\r\n\r\n") != 1) {
				t.Errorf("the upstream was sent %q", wire)
			}
		})
	}
}

// converse writes a message, reads as many answers as are due, and then whatever
// else comes before the connection ends.
func converse(t *testing.T, conn *tls.Conn, message string, due int) []string {
	t.Helper()
	if _, err := fmt.Fprint(conn, message); err != nil {
		t.Fatal(err)
	}
	from := bufio.NewReader(conn)
	var answers []string
	for {
		r := stack.ReadReply(from, http.MethodPost)
		if r.Err != nil {
			return answers
		}
		if answers = append(answers, fmt.Sprint(r.Status, " ", r.Denial().Reason)); len(answers) == due {
			_ = conn.CloseWrite() // nothing more comes, so an answer or the end does
		}
	}
}

// The grant is for a GET without a body. The agent sends one anyhow, in every
// way there is to not announce it. The defence: the decision is told of the first
// byte, and that is one too many.
func TestTheAgentHidesABodyInACallWithoutOne(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	none := refused{http.StatusForbidden, "body_not_granted"}
	line := "GET " + granted + " HTTP/1.1\r\nHost: " + mirrorHost + "\r\n"
	for name, request := range map[string]string{
		"with its length":    line + "Content-Length: 6\r\n\r\nhidden",
		"in chunks":          line + "Transfer-Encoding: chunked\r\n\r\n6\r\nhidden\r\n0\r\n\r\n",
		"in an unended one":  line + "Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n",
		"announced, not yet": line + "Content-Length: 6\r\n\r\nh",
		"asked for first":    line + "Expect: 100-continue\r\nContent-Length: 6\r\n\r\nhidden",
	} {
		t.Run("HTTP/1.1, "+name, func(t *testing.T) {
			s.onlyControl(t, func() {
				conn := s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1")
				if _, err := fmt.Fprint(conn, request); err != nil {
					t.Fatal(err)
				}
				none.check(t, final(bufio.NewReader(conn)))
			})
		})
	}
	base := stack.Request(http.MethodGet, "https", mirrorHost, granted)
	for name, m := range map[string]stack.Message{
		"without its length": {Headers: base, Body: []byte("hidden")},
		"with its length":    {Headers: append(base[:4:4], stack.Field{Name: "content-length", Value: "6"}), Body: []byte("hidden")},
		"before a trailer":   {Headers: base, Body: []byte("h"), Trailer: []stack.Field{{Name: "x-item-version", Value: "7"}}},
	} {
		t.Run("HTTP/2, "+name, func(t *testing.T) {
			s.onlyControl(t, func() { none.check(t, stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(m)) })
		})
	}
	t.Run("HTTP/2, against its length", func(t *testing.T) {
		s.onlyControl(t, func() {
			r := stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{
				Headers: append(base[:4:4], stack.Field{Name: "content-length", Value: "0"}), Body: []byte("hidden"),
			})
			if r.Err == nil && r.Status < 400 {
				t.Errorf("answered %d %s", r.Status, r.Body)
			}
		})
	})
	t.Run("a body that is none", func(t *testing.T) {
		for _, request := range []string{line + "Content-Length: 0\r\n\r\n", line + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
			before := len(s.mirror.Seen())
			stack.WantOK(t, stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet, request))
			if seen := s.mirror.Seen()[before:]; len(seen) != 1 || len(seen[0].Body) != 0 {
				t.Errorf("the upstream saw %+v", seen)
			}
		}
		stack.WantOK(t, stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{Headers: base, EmptyData: true}))
	})
}

// final reads the answer behind those that say only that one is to go on.
func final(from *bufio.Reader) stack.Reply {
	for {
		if r := stack.ReadReply(from, http.MethodGet); r.Err != nil || r.Status >= 200 {
			return r
		}
	}
}

// The agent turns the granted call into a connection that nobody looks into, and
// has the credential dropped on the way. The defence: the grant does not allow an
// upgrade, so there is none.
func TestTheAgentUpgradesTheConnection(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	s.grant(t, "read-item")
	for _, headers := range []string{
		"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Connection: Upgrade, authorization\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Connection: Upgrade, authorization\r\nUpgrade: exeat", "Connection: Upgrade\r\nUpgrade: TLS/1.2", "Connection: Upgrade\r\nUpgrade: websocket, h2c",
	} {
		t.Run(strings.ReplaceAll(headers, "/", "_"), func(t *testing.T) {
			s.onlyControl(t, func() {
				r := stack.Exchange(s.task.Secure(t, mirrorHost, mirrorHost, "http/1.1"), http.MethodGet,
					"GET "+granted+" HTTP/1.1\r\nHost: "+mirrorHost+"\r\n"+headers+"\r\n\r\n")
				refused{http.StatusForbidden, ""}.check(t, r)
			})
		})
	}
	t.Run("HTTP/2", func(t *testing.T) {
		s.onlyControl(t, func() {
			r := stack.NewH2(t, s.task.Secure(t, mirrorHost, mirrorHost, "h2")).Do(stack.Message{
				Headers: append(stack.Request("CONNECT", "https", mirrorHost, granted), stack.Field{Name: ":protocol", Value: "websocket"}), Body: []byte("x"),
			})
			if r.Err == nil && r.Status < 400 {
				t.Errorf("answered %d %s", r.Status, r.Body)
			}
		})
	})
}

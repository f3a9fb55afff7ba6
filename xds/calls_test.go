package xds

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/exeat-dev/exeat/policy"
)

// one is a rig with an Envoy, one task and one granted host.
func one(t *testing.T, handler http.HandlerFunc) (*rig, *realEnvoy, Room) {
	t.Helper()
	r := newRig(t)
	addr, ca := upstream(t, handler, "api.test", "b.test")
	e := r.startEnvoy("")
	rm := room("t_1", tls443("api", "api.test", addr, ca))
	r.awaitReady(r.set(rm))
	return r, e, rm
}

// tunnel opens a TLS connection to host through the room, for raw HTTP/1.1.
func (e *realEnvoy) tunnel(rm Room, sni string) *tls.Conn {
	e.t.Helper()
	conn, err := net.Dial("tcp", e.proxy)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "CONNECT %s:443 HTTP/1.1\r\nHost: %s:443\r\nProxy-Authorization: %s\r\n\r\n", sni, sni, rm.Authorization.Expose())
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "CONNECT"})
	if err != nil || resp.StatusCode != 200 {
		e.t.Fatalf("CONNECT: %v %v", resp, err)
	}
	// What the client trusts is tested elsewhere; here the bytes inside matter.
	c := tls.Client(conn, &tls.Config{ServerName: sni, InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	if err := c.Handshake(); err != nil {
		e.t.Fatal(err)
	}
	return c
}

// raw sends bytes and reads one response.
func raw(t *testing.T, c net.Conn, request string) (int, string, http.Header) {
	t.Helper()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), resp.Header
}

func TestWithoutAnAnswerACallIsDenied(t *testing.T) {
	t.Parallel()
	r, e, rm := one(t, echo)
	r.authz.set(func(*checkRequest) *checkResponse { return nil })
	c := e.client(rm, false)
	resp, err := c.Get("https://api.test/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 503 || resp.Header.Get("content-type") != problemType || !strings.Contains(string(b), `"reason":"internal"`) ||
		!strings.Contains(string(b), `"status":503`) {
		t.Fatalf("%d %v %s", resp.StatusCode, resp.Header, b)
	}
	if id := resp.Header.Get("x-request-id"); len(id) < 30 {
		t.Fatalf("request ID %q", id)
	}
	// A denial with status 503 of the decision's own keeps its own words.
	r.authz.set(func(*checkRequest) *checkResponse {
		d := deny()
		d.GetDeniedResponse().Status.Code = 503
		return d
	})
	if code, body := fetch(t, c, "https://api.test/"); code != 503 || body != denialBody {
		t.Fatalf("%d %s", code, body)
	}
	// One that is late is none.
	late := make(chan struct{})
	defer close(late)
	r.authz.set(func(*checkRequest) *checkResponse { <-late; return allow("60000m") })
	if code, body := fetch(t, c, "https://api.test/"); code != 503 || !strings.Contains(body, `"reason":"internal"`) {
		t.Fatalf("%d %s", code, body)
	}
	// One whose mutation is not well formed is none either.
	r.authz.set(answer("1m\r\nx: y"))
	if code, _ := fetch(t, c, "https://api.test/"); code < 500 {
		t.Fatalf("invalid mutation: %d", code)
	}
}

func TestForgedHeadersReachNeitherDecisionNorUpstream(t *testing.T) {
	t.Parallel()
	r, e, rm := one(t, echo)
	forged := map[string]string{
		"Authorization": "Bearer forged", "Proxy-Authorization": "Basic forged", "X-Real-Ip": "forged", "Forwarded": "for=forged", "Via": "1.1 forged",
		"X-Envoy-Upstream-Rq-Timeout-Ms": "forged", "X-Envoy-Retry-On": "forged", "X-Envoy-Original-Path": "/forged",
		"X-Envoy-Decorator-Operation": "forged", "X-Envoy-Internal": "forged", "X-Envoy-Original-Dst-Host": "forged:1",
		"X-Forwarded-For": "forged", "X-Forwarded-Host": "forged", "X-Forwarded-Client-Cert": "forged", "X-Forwarded-Proto": "forged",
		"X-Forwarded-Prefix": "/forged", "X-Request-Id": "forged", "Exeat-Task": "forged", "Exeat-Task-Credential": "forged", "Exeat-Decision": "forged",
	}
	for _, h2 := range []bool{false, true} {
		req, _ := http.NewRequest("GET", "https://api.test/", nil)
		for k, v := range forged {
			req.Header.Set(k, v)
		}
		req.Header.Set("Exeat-Grant", "g_1")
		resp, err := e.client(rm, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || strings.Contains(string(b), "forged") || strings.Contains(string(b), "exeat-") ||
			strings.Contains(string(b), "grpc-timeout") || strings.Contains(string(b), "x-request-id") || strings.Contains(string(b), "x-forwarded") {
			t.Fatalf("h2=%v: upstream saw %d\n%s", h2, resp.StatusCode, b)
		}
		var id string
		for _, h := range r.authz.last().GetAttributes().GetRequest().GetHttp().GetHeaderMap().GetHeaders() {
			if strings.Contains(string(h.GetRawValue()), "forged") {
				t.Errorf("h2=%v: the decision saw %s: %s", h2, h.GetKey(), h.GetRawValue())
			}
			if h.GetKey() == "x-request-id" {
				id = string(h.GetRawValue())
			}
		}
		if len(id) < 30 {
			t.Errorf("the decision saw no request ID: %q", id)
		}
	}
	if code, _, _ := raw(t, e.tunnel(rm, "api.test"), "GET / HTTP/1.1\r\nHost: api.test\r\nX_Real_Ip: forged\r\n\r\n"); code != 400 {
		t.Errorf("a header with an underscore: %d", code)
	}
}

func TestADecisionIsOnTheVeryBytesThatGoOn(t *testing.T) {
	t.Parallel()
	r, e, rm := one(t, echo)
	for _, target := range []string{
		"/v1/../x", "//v1//x", "/v1/%2e%2e/x", "/v1/%2E/x", "/a%2Fb", "/a%5cb", "/a\\b", "/%41", "/a;b=c/d", "/?a=b&a=%62", "/x/.", "/a%00b",
	} {
		code, body, _ := raw(t, e.tunnel(rm, "api.test"), "GET "+target+" HTTP/1.1\r\nHost: api.test\r\n\r\n")
		if code == 400 {
			continue // refused outright is fine too
		}
		seen := r.authz.last().GetAttributes().GetRequest().GetHttp().GetPath()
		line, _, _ := strings.Cut(body, "\n")
		if code != 200 || seen != target || line != "GET api.test "+target {
			t.Errorf("%q: decided on %q, upstream saw %q (%d)", target, seen, line, code)
		}
	}
}

func TestAnotherAuthorityOnAGrantedConnectionIsDecidedAsUnknown(t *testing.T) {
	t.Parallel()
	r, e, rm := one(t, echo)
	for _, host := range []string{"b.test", "api.test.", "api.test:8443", "api.test@b.test", "127.0.0.1", "exeat.internal"} {
		n := r.authz.count()
		code, body, _ := raw(t, e.tunnel(rm, "api.test"), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		if code != 403 && code != 400 {
			t.Errorf("%s: %d %s", host, code, body)
		}
		if code == 403 && (r.authz.count() == n || r.authz.last().GetAttributes().GetContextExtensions()[policy.ExtensionDestination] != policy.DestinationNone) {
			t.Errorf("%s: no decision without a destination was asked for", host)
		}
	}
	for _, host := range []string{"api.test", "API.TEST", "api.test:443"} {
		code, body, _ := raw(t, e.tunnel(rm, "api.test"), "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
		http := r.authz.last().GetAttributes()
		if code != 200 || http.GetTlsSession().GetSni() != "api.test" || http.GetContextExtensions()[policy.ExtensionDestination] != "api" {
			t.Errorf("%s: %d %s, SNI %q", host, code, body, http.GetTlsSession().GetSni())
		}
	}
}

func TestAHostGetsItsChainWhileAClientHoldsTheDefaultOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(echo), "api.test")
	e := r.startEnvoy("")
	rm := room("t_1")
	r.awaitReady(r.set(rm))
	c1, c2 := e.client(rm, false), e.client(rm, true)
	for _, c := range []*http.Client{c1, c2} {
		if code, body := fetch(t, c, "https://api.test/"); code != 403 || body != denialBody {
			t.Fatalf("%d %s", code, body)
		}
	}
	r.awaitReady(r.set(room("t_1", tls443("api", "api.test", addr, ca))))
	for _, c := range []*http.Client{c1, c2} {
		if code, body := fetch(t, c, "https://api.test/"); code != 200 {
			t.Fatalf("after the grant: %d %s", code, body)
		}
	}
}

func TestEachCallIsLoggedWithItsDecision(t *testing.T) {
	t.Parallel()
	r, e, rm := one(t, echo)
	c := e.client(rm, false)
	entry := func() *accesslogv3.HTTPAccessLogEntry {
		select {
		case en := <-r.authz.entries:
			return en
		case <-time.After(10 * time.Second):
			t.Fatal("no entry came")
			return nil
		}
	}
	decision := func(en *accesslogv3.HTTPAccessLogEntry) string {
		return en.GetCommonProperties().GetMetadata().GetFilterMetadata()[authzName].GetFields()["decision"].GetStringValue()
	}
	fetch(t, c, "https://api.test/")
	if en := entry(); decision(en) != "d_allowed" || en.GetResponse().GetResponseCode().GetValue() != 200 ||
		en.GetCommonProperties().GetDownstreamLocalAddress().GetEnvoyInternalAddress().GetServerListenerName() != "room/t_1" {
		t.Errorf("allowed: %v", en)
	}
	fetch(t, c, "https://b.test/")
	if en := entry(); decision(en) != "d_denied" || en.GetResponse().GetResponseCode().GetValue() != 403 || len(en.GetRequest().GetRequestId()) < 30 {
		t.Errorf("denied: %v", en)
	}
}

func TestAnUpstreamThatIsNotTheHostIsRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	addr, ca := upstream(t, http.HandlerFunc(echo), "b.test")
	_, otherCA := upstream(t, http.HandlerFunc(echo), "c.test")
	e := r.startEnvoy("")
	rm := room("t_1", tls443("api", "api.test", addr, ca), tls443("b", "b.test", addr, otherCA))
	r.awaitReady(r.set(rm))
	for _, host := range []string{"api.test", "b.test"} {
		if code, body := fetch(t, e.client(rm, false), "https://"+host+"/"); code != 503 {
			t.Errorf("%s: %d %s", host, code, body)
		}
	}
}

func TestACallCannotCarryABodyUnseen(t *testing.T) {
	t.Parallel()
	r, e, rm := one(t, echo)
	body := func() io.Reader { return io.MultiReader(strings.NewReader("hidden")) } // of unknown length
	for _, h2 := range []bool{false, true} {
		req, _ := http.NewRequest("POST", "https://api.test/", body())
		resp, err := e.client(rm, h2).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if got := r.authz.last().GetAttributes().GetRequest().GetHttp().GetRawBody(); len(got) == 0 || resp.StatusCode != 200 {
			t.Errorf("h2=%v: %d, the decision saw %q of the body", h2, resp.StatusCode, got)
		}
	}
}

func TestAnUpgradeIsRefused(t *testing.T) {
	t.Parallel()
	_, e, rm := one(t, echo)
	for _, protocol := range []string{"websocket", "h2c", "foo"} {
		code, body, _ := raw(t, e.tunnel(rm, "api.test"), "GET / HTTP/1.1\r\nHost: api.test\r\nConnection: Upgrade, authorization\r\nUpgrade: "+protocol+
			"\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		if code == 101 || code == 200 && strings.Contains(body, "upgrade: ") {
			t.Errorf("%s: %d %s", protocol, code, body)
		}
	}
}

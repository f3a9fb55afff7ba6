package service

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// lines is a log that is written by many.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// running is a service that serves, and clients of it.
type running struct {
	*Service
	issuer *testIssuer
	log    *lines
	h1, h2 *http.Client
}

func start(t *testing.T) running {
	t.Helper()
	issuer := newIssuer(t)
	log := &lines{}
	s, err := New(Config{Log: log, Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Trust(issuer.URL, issuer.caPEM()); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	r := running{s, issuer, log, client(s, l.Addr().String(), false), client(s, l.Addr().String(), true)}
	t.Cleanup(func() {
		r.h1.CloseIdleConnections()
		r.h2.CloseIdleConnections()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

// client calls the service by its name, wherever it listens.
func client(s *Service, address string, h2 bool) *http.Client {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(s.CAPEM())
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!h2)
	protocols.SetHTTP2(h2)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		Protocols:       protocols,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, address)
		},
	}}
}

func (r running) request(t *testing.T, method, path, body string, header http.Header) *http.Request {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "https://"+Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	return request
}

// answered is a response whose body was read.
type answered struct {
	StatusCode int
	Proto      string
	Header     http.Header
}

func do(t *testing.T, c *http.Client, request *http.Request) (answered, string) {
	t.Helper()
	response, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answered{response.StatusCode, response.Proto, response.Header}, string(body)
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func TestOverBothProtocols(t *testing.T) {
	t.Parallel()
	r := start(t)
	for proto, c := range map[string]*http.Client{"HTTP/1.1": r.h1, "HTTP/2.0": r.h2} {
		response, body := do(t, c, r.request(t, "GET", "/v1/tickets/OPS-42", "", bearer(r.issuer.token(t, nil))))
		if response.StatusCode != 200 || response.Proto != proto {
			t.Errorf("%s: %d over %s: %s", proto, response.StatusCode, response.Proto, body)
		}
		if !strings.Contains(body, `"subject":"spiffe://example.org/agent/triage"`) || !strings.Contains(body, `"grant":"g_1"`) {
			t.Errorf("the answer does not say who was seen: %s", body)
		}
	}
}

func TestComments(t *testing.T) {
	t.Parallel()
	r := start(t)
	const path = "/v1/tickets/OPS-42/comments"
	read := bearer(r.issuer.token(t, nil))
	write := bearer(r.issuer.token(t, map[string]any{"scope": "openid ticket:write"}))
	if _, body := do(t, r.h2, r.request(t, "GET", path, "", read)); body != "{\"comments\":[]}\n" {
		t.Error(body)
	}
	if response, body := do(t, r.h2, r.request(t, "POST", path, `{"text": "it burns"}`, write)); response.StatusCode != 201 {
		t.Error(body)
	}
	if _, body := do(t, r.h2, r.request(t, "GET", path, "", read)); !strings.Contains(body, `"text":"it burns"`) {
		t.Error(body)
	}
	if response, _ := do(t, r.h2, r.request(t, "POST", path, `{"text": "it burns"}`, read)); response.StatusCode != 403 {
		t.Errorf("a token to read wrote: %d", response.StatusCode)
	}
	if response, _ := do(t, r.h2, r.request(t, "GET", path, "", write)); response.StatusCode != 403 {
		t.Errorf("a token to write read: %d", response.StatusCode)
	}
	for _, bad := range []string{"", "{}", "not json", `{"text": "` + strings.Repeat("x", maxBody) + `"}`} {
		if response, _ := do(t, r.h2, r.request(t, "POST", path, bad, write)); response.StatusCode != 400 {
			t.Errorf("a bad comment: %d", response.StatusCode)
		}
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	r := start(t)
	good := r.issuer.claimsWith(nil)
	with := func(name string, value any) string { return r.issuer.token(t, map[string]any{name: value}) }
	stranger := newKey(t, "first") // another key under a known name
	unknown := newKey(t, "unknown")
	hmac := jose.JSONWebKey{Key: []byte(strings.Repeat("k", 32)), KeyID: "first", Algorithm: "HS256"}
	parts := strings.Split(r.issuer.token(t, nil), ".")
	const none = "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0" // {"alg":"none","typ":"at+jwt"}
	for name, test := range map[string]struct {
		token  string
		status int
		says   string
	}{
		"good":                    {r.issuer.token(t, nil), 200, ""},
		"type in its long form":   {sign(t, r.issuer.key(), "application/at+JWT", good), 200, ""},
		"end within a second":     {with("exp", float64(time.Now().Add(time.Minute).UnixMilli())/1000), 200, ""},
		"several audiences":       {with("aud", []string{"https://other.example.org", Audience}), 200, ""},
		"not a token":             {"x", 401, "not a token signed with ES256"},
		"empty":                   {"", 401, "not a token signed with ES256"},
		"two tokens":              {r.issuer.token(t, nil) + ", x", 401, "not a token signed with ES256"},
		"unsigned":                {none + "." + parts[1] + ".", 401, "not a token signed with ES256"},
		"signed with a text":      {sign(t, hmac, "at+jwt", good), 401, "not a token signed with ES256"},
		"signed by a stranger":    {sign(t, stranger, "at+jwt", good), 401, "the signature is not the issuer's"},
		"an unknown key":          {sign(t, unknown, "at+jwt", good), 401, "the issuer has no such key"},
		"another's signature":     {parts[0] + "." + parts[1] + "." + strings.Split(with("ticket", "OPS-43"), ".")[2], 401, "the signature is not the issuer's"},
		"an identity token":       {sign(t, r.issuer.key(), "JWT", good), 401, "not an access token"},
		"another issuer":          {with("iss", "https://other.example.org"), 401, "another issuer's token"},
		"another audience":        {with("aud", "https://other.example.org"), 401, "a token for another service"},
		"no audience":             {with("aud", nil), 401, "a token for another service"},
		"over":                    {with("exp", time.Now().Unix()), 401, "the token is over"},
		"no end":                  {with("exp", nil), 401, "the token is over"},
		"not begun":               {with("nbf", time.Now().Add(time.Minute).Unix()), 401, "the token has not begun"},
		"from the future":         {with("iat", time.Now().Add(time.Minute).Unix()), 401, "the token has not begun"},
		"nobody's":                {with("sub", nil), 401, "the token names nobody"},
		"without an id":           {with("jti", nil), 401, "the token names nobody"},
		"another scope":           {with("scope", "ticket:write"), 403, "a token for something else"},
		"a scope that begins so":  {with("scope", "ticket:readonly"), 403, "a token for something else"},
		"no scope":                {with("scope", nil), 403, "a token for something else"},
		"another ticket":          {with("ticket", "OPS-43"), 403, "a token for another ticket"},
		"no ticket":               {with("ticket", nil), 403, "a token for another ticket"},
		"every ticket by pattern": {with("ticket", "*"), 403, "a token for another ticket"},
	} {
		t.Run(name, func(t *testing.T) {
			response, body := do(t, r.h2, r.request(t, "GET", "/v1/tickets/OPS-42", "", bearer(test.token)))
			if response.StatusCode != test.status || !strings.Contains(body, test.says) {
				t.Errorf("%d %s", response.StatusCode, body)
			}
			challenge := response.Header.Get("WWW-Authenticate")
			want := map[int]string{200: "", 401: `error="invalid_token"`, 403: `error="insufficient_scope", scope="ticket:read"`}[test.status]
			if !strings.Contains(challenge, want) || (challenge == "") != (test.status == 200) {
				t.Errorf("WWW-Authenticate: %s", challenge)
			}
		})
	}
}

// Only one Authorization counts; whatever else a caller says of itself does not.
func TestHeadersOfTheCaller(t *testing.T) {
	t.Parallel()
	r := start(t)
	token := "Bearer " + r.issuer.token(t, nil)
	for name, test := range map[string]struct {
		header    http.Header
		status    int
		challenge string
	}{
		"none":             {http.Header{}, 401, `Bearer realm="tickets"`},
		"another scheme":   {http.Header{"Authorization": {"Basic eDp5"}}, 401, `Bearer realm="tickets"`},
		"two":              {http.Header{"Authorization": {token, token}}, 400, `Bearer realm="tickets", error="invalid_request"`},
		"scheme in lower":  {http.Header{"Authorization": {strings.Replace(token, "B", "b", 1)}}, 200, ""},
		"only forged ones": {http.Header{"X-Forwarded-User": {"admin"}, "X-Forwarded-Client-Cert": {"By=x"}, "Cookie": {"session=1"}}, 401, `Bearer realm="tickets"`},
	} {
		response, _ := do(t, r.h1, r.request(t, "GET", "/v1/tickets/OPS-42", "", test.header))
		if got := response.Header.Get("WWW-Authenticate"); response.StatusCode != test.status || got != test.challenge {
			t.Errorf("%s: %d %s", name, response.StatusCode, got)
		}
	}
	if response, _ := do(t, r.h1, r.request(t, "GET", "/admin", "", http.Header{})); response.StatusCode != 401 {
		t.Errorf("a path that is not there, without a token: %d", response.StatusCode)
	}
	if response, _ := do(t, r.h1, r.request(t, "GET", "/admin", "", http.Header{"Authorization": {token}})); response.StatusCode != 404 {
		t.Errorf("a path that is not there: %d", response.StatusCode)
	}
}

// A key that the issuer begins to sign with is asked for; a known one is not.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	r := start(t)
	old := r.issuer.token(t, nil)
	get := func(token string) int {
		response, _ := do(t, r.h2, r.request(t, "GET", "/v1/tickets/OPS-42", "", bearer(token)))
		return response.StatusCode
	}
	first := []int{get(old), get(old)}
	r.issuer.rotate(t, "second")
	second := []int{get(r.issuer.token(t, nil)), get(old)}
	if !slices.Equal(first, []int{200, 200}) || !slices.Equal(second, []int{200, 200}) {
		t.Errorf("%v, then %v", first, second)
	}
	if r.issuer.fetched != 2 {
		t.Errorf("keys were fetched %d times, want 2", r.issuer.fetched)
	}
}

func TestIssuerThatNamesAnother(t *testing.T) {
	t.Parallel()
	r := start(t)
	r.issuer.mu.Lock()
	r.issuer.name = "https://other.example.org"
	r.issuer.mu.Unlock()
	response, body := do(t, r.h2, r.request(t, "GET", "/v1/tickets/OPS-42", "", bearer(r.issuer.token(t, nil))))
	if response.StatusCode != 401 || !strings.Contains(body, "names another issuer") {
		t.Errorf("%d %s", response.StatusCode, body)
	}
}

// A stream goes on until its client leaves, and the log says when that was.
func TestEvents(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, c := range []*http.Client{r.h1, r.h2} {
		ctx, leave := context.WithCancel(t.Context())
		request := r.request(t, "GET", "/v1/tickets/OPS-42/events", "", bearer(r.issuer.token(t, nil))).WithContext(ctx)
		response, err := c.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if got := response.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("content type %s", got)
		}
		event := make([]byte, len("id: 1\nevent: ticket\ndata: {\"ticket\": \"OPS-42\", \"number\": 1}\n\n"))
		if _, err := io.ReadFull(response.Body, event); err != nil || !strings.HasSuffix(string(event), "\"number\": 1}\n\n") {
			t.Fatalf("%q %v", event, err)
		}
		last := func(as []Access) Access { return as[len(as)-1] }
		if _, err := r.Await(t.Context(), func(as []Access) bool { return last(as).Events > 2 && last(as).Ended.IsZero() }); err != nil {
			t.Fatal(err)
		}
		left := time.Now()
		leave()
		log, err := r.Await(t.Context(), func(as []Access) bool { return !last(as).Ended.IsZero() })
		if err != nil || last(log).Ended.Before(left) || last(log).Status != 200 {
			t.Errorf("%+v %v", last(log), err)
		}
	}
}

func TestAccessLog(t *testing.T) {
	t.Parallel()
	r := start(t)
	token := r.issuer.token(t, nil)
	do(t, r.h1, r.request(t, "GET", "/v1/tickets/OPS-42?page=1", "", http.Header{"Authorization": {"Bearer " + token}, "X-Ticket-Version": {"1"}}))
	do(t, r.h1, r.request(t, "GET", "/v1/tickets/OPS-42", "", http.Header{"Authorization": {"Bearer forged", "Bearer " + token}}))
	log, err := r.Await(t.Context(), func(as []Access) bool { return len(as) == 2 && !as[1].Ended.IsZero() })
	if err != nil {
		t.Fatal(err)
	}
	good, forged := log[0], log[1]
	if good.Subject != "spiffe://example.org/agent/triage" || good.Grant != "g_1" || good.Task != "t_1" || good.JTI != "one" ||
		good.Status != 200 || good.Authorizations != 1 || good.Path != "/v1/tickets/OPS-42" || good.Host != Host ||
		!slices.Contains(good.Headers, "X-Ticket-Version") || good.Ended.Before(good.Started) {
		t.Errorf("%+v", good)
	}
	if forged.Subject != "" || forged.Status != 400 || forged.Authorizations != 2 || forged.Refused == "" {
		t.Errorf("%+v", forged)
	}
	printed := strings.Split(strings.TrimSpace(r.log.String()), "\n")
	var first map[string]any
	if len(printed) != 2 || json.Unmarshal([]byte(printed[0]), &first) != nil || first["grant"] != "g_1" || first["status"] != 200.0 {
		t.Errorf("printed: %s", printed)
	}
	if strings.Contains(r.log.String(), token) || strings.Contains(r.log.String(), "forged") {
		t.Error("the log holds a token")
	}
}

func TestTrust(t *testing.T) {
	t.Parallel()
	s, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	issuer := newIssuer(t)
	token := issuer.token(t, nil)
	if _, err := s.verify(t.Context(), token); err == nil {
		t.Error("a token was good before an issuer was trusted")
	}
	if s.Trust("", nil) == nil || s.Trust("http://127.0.0.1", nil) == nil || s.Trust(issuer.URL, []byte("no CA")) == nil {
		t.Error("an issuer that cannot be trusted was")
	}
	if err := s.Trust(issuer.URL, issuer.caPEM()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(t.Context(), token); err != nil {
		t.Error(err)
	}
	if err := s.Trust(issuer.URL, s.CAPEM()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.verify(t.Context(), token); err == nil {
		t.Error("the issuer's server was trusted by another CA")
	}
}

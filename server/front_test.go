package server

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/identity"
)

// bare is a server that has only what the front needs.
func bare(log *strings.Builder) *Server {
	return &Server{
		log:      slog.New(slog.NewTextHandler(log, nil)),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "requests"}, []string{"route", "code"}),
	}
}

func TestAPanicIsA500ThatSaysNothing(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s := bare(&log)
	r := &router{mux: http.NewServeMux(), table: map[string]*route{"GET /v1/x": {name: "GET /v1/x"}}}
	r.mux.HandleFunc("GET /v1/x", func(http.ResponseWriter, *http.Request) { panic("the cause") })
	who := func(*http.Request) (grant.Caller, *Problem) { return grant.Caller{Operator: true}, nil }
	srv := httptest.NewServer(s.front(r, who))
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/v1/x")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body := make([]byte, 1024)
	n, _ := resp.Body.Read(body)
	if resp.StatusCode != 500 || !strings.Contains(string(body[:n]), `"code":"internal"`) || strings.Contains(string(body[:n]), "the cause") {
		t.Errorf("%d %s", resp.StatusCode, body[:n])
	}
	srv.Close() // the log is complete once the handler has returned
	if !strings.Contains(log.String(), "the cause") {
		t.Errorf("not logged: %s", log.String())
	}
}

func TestOnlyTheUserOfThisProcessIsItsOperator(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	s := bare(&log)
	for name, c := range map[string]struct {
		ctx context.Context
		ok  bool
	}{
		"this user":        {context.WithValue(t.Context(), peerKey{}, identity.Peer{PID: 1, UID: uint32(os.Getuid())}), true},
		"another user":     {context.WithValue(t.Context(), peerKey{}, identity.Peer{PID: 1, UID: uint32(os.Getuid()) + 1}), false},
		"nobody knows who": {t.Context(), false},
	} {
		caller, p := s.localCaller(httptest.NewRequestWithContext(c.ctx, "GET", "/v1/tasks", nil))
		if caller.Operator != c.ok || (p == nil) != c.ok {
			t.Errorf("%s: operator %v, %v", name, caller.Operator, p)
		}
	}
}

// What no code is known for says nothing of what it was.
func TestAnUnknownErrorIsInternal(t *testing.T) {
	t.Parallel()
	p := problemOf(os.ErrPermission)
	if p.Code != "internal" || p.Status != 500 || strings.Contains(p.Detail, os.ErrPermission.Error()) {
		t.Errorf("got %+v", p)
	}
	for _, known := range sentinels {
		if p := problemOf(known.err); p.Code != known.code.name || p.Status < 400 || p.Detail == "" {
			t.Errorf("%v: %+v", known.err, p)
		}
	}
}

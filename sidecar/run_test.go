package sidecar_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestASidecarOnARealEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, 0)
	s := w.start(t, w.config(t))
	address := strings.TrimPrefix(s.API, "http://")

	t.Run("the API sees the sidecar and what it may see", func(t *testing.T) {
		got, err := raw(t, address, "GET /v1/x HTTP/1.1\r\nHost: "+address+"\r\nConnection: close\r\n"+
			"Authorization: Bearer forged\r\nProxy-Authorization: Basic eA==\r\nCookie: a=b\r\nExeat-Task: t9\r\nExeat-Task-Credential: c\r\n"+
			"X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: h\r\nForwarded: for=1\r\nX-Real-Ip: 1\r\nX-Envoy-Original-Path: /x\r\n"+
			"X-Envoy-Upstream-Rq-Timeout-Ms: 1\r\n\r\n")
		if err != nil || got.status != 200 || got.body != "spiffe://example.org/sidecar/triage/1 /v1/x" || got.header.Get("Proto") != "HTTP/2.0" {
			t.Fatalf("got %+v, %v", got, err)
		}
		seen := w.lastHeader()
		if len(seen) != 1 || seen.Get("Exeat-Task-Credential") != "c" {
			t.Errorf("arrived: %v", seen)
		}
	})
	t.Run("what the API's listener refuses", func(t *testing.T) { refusals(t, address) })
	t.Run("a room says for which task", func(t *testing.T) {
		got, err := raw(t, s.Proxy, "GET http://exeat.internal/v1/y HTTP/1.1\r\nHost: exeat.internal\r\nProxy-Authorization: Basic dDE6\r\nConnection: close\r\nExeat-Task: t9\r\n\r\n")
		if err != nil || got.status != 200 || w.lastHeader().Get("Exeat-Task") != "t1" || w.lastHeader().Get("Proxy-Authorization") != "" {
			t.Errorf("got %+v, %v; arrived %v", got, err, w.lastHeader())
		}
		got, err = raw(t, s.Proxy, "GET http://elsewhere/v1/y HTTP/1.1\r\nHost: elsewhere\r\nProxy-Authorization: Basic dDE6\r\nConnection: close\r\n\r\n")
		if err != nil || got.status != 421 {
			t.Errorf("another host inside: %+v, %v", got, err)
		}
	})
	t.Run("the proxy answers in the control plane's words", func(t *testing.T) {
		for _, request := range []string{
			"CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n",
			"CONNECT x.example:443 HTTP/1.0\r\n\r\n",
			"GET http://x.example/ HTTP/1.1\r\nHost: x.example\r\nConnection: close\r\n\r\n",
		} {
			got, err := raw(t, s.Proxy, request)
			if err != nil || got.status != 407 || got.body != `{"reason":"unknown_task"}` || got.header.Get("Proxy-Authenticate") != `Basic realm="exeat"` {
				t.Errorf("%.20q: %+v, %v", request, got, err)
			}
		}
	})
	t.Run("the admin can neither change nor show anything", func(t *testing.T) { adminIsClosed(t, s.config.RunDir) })
	t.Run("files are private, the bundle is not", func(t *testing.T) { files(t, w, s) })
	t.Run("another process has no identity from it", func(t *testing.T) { identitySocketRefuses(t, s.config.RunDir) })
	t.Run("it ends cleanly", func(t *testing.T) {
		pid := envoyPID(t, s.config.RunDir)
		if err := s.stop(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Error("Envoy still runs")
		}
	})
}

// refusals are those of the API's listener, of which the API hears nothing.
func refusals(t *testing.T, address string) {
	get := func(path string, headers ...string) string {
		host := "Host: " + address + "\r\n"
		if len(headers) > 0 && strings.HasPrefix(strings.ToLower(headers[0]), "host:") {
			host = ""
		}
		return "GET " + path + " HTTP/1.1\r\n" + host + strings.Join(append(headers, "Connection: close"), "\r\n") + "\r\n\r\n"
	}
	_, port, _ := strings.Cut(address, ":")
	for name, c := range map[string]struct {
		request string
		want    int
	}{
		"localhost":               {get("/v1/x", "Host: localhost:"+port), 200},
		"LOCALHOST":               {get("/v1/x", "Host: LOCALHOST:"+port), 200},
		"another host":            {get("/v1/x", "Host: evil.example:"+port), 421},
		"a host with us in it":    {get("/v1/x", "Host: localhost:"+port+".evil.example"), 421},
		"no port":                 {get("/v1/x", "Host: localhost"), 421},
		"the room's host":         {get("/v1/x", "Host: exeat.internal"), 421},
		"absolute-form elsewhere": {get("http://evil.example/v1/x"), 421},
		"a browser's origin":      {get("/v1/x", "Origin: http://"+address), 403},
		"null origin":             {get("/v1/x", "Origin: null"), 403},
		"Node.js's fetch":         {get("/v1/x", "Sec-Fetch-Mode: cors"), 200},
		"a browser's fetch":       {get("/v1/x", "Sec-Fetch-Site: same-origin"), 403},
		"gRPC":                    {get("/v1/x", "Content-Type: Application/gRPC+proto"), 415},
		"gRPC web":                {get("/v1/x", "Content-Type: application/grpc-web"), 415},
		"gRPC among others":       {get("/v1/x", "Content-Type: application/json", "Content-Type: application/grpc-web"), 415},
		"the root":                {get("/"), 404},
		"a longer word":           {get("/mcpx"), 404},
		"another case":            {get("/V1/x"), 404},
		"a file's longer name":    {get("/openapi.jsonx"), 404},
		"a gRPC method":           {get("/envoy.service.auth.v3.Authorization/Check"), 404},
		"out by dots":             {get("/v1/../x"), 404},
		"out by encoded dots":     {get("/v1/%2e%2e/x"), 404},
		"out by an encoded slash": {get("/v1/..%2fx"), 400},
		"a back slash":            {get(`/v1/..%5cx`), 400},
		"an underscore":           {get("/v1/x", "exeat_task: t9"), 400},
		"HTTP/1.0":                {"GET /v1/x HTTP/1.0\r\nHost: " + address + "\r\n\r\n", 426},
		"CONNECT":                 {"CONNECT " + address + " HTTP/1.1\r\nHost: " + address + "\r\n\r\n", 404},
		"two lengths":             {"POST /v1/x HTTP/1.1\r\nHost: " + address + "\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		"the document":            {get("/openapi.json"), 200},
		"the keys":                {get("/jwks"), 200},
		"discovery":               {get("/.well-known/openid-configuration"), 200},
		"MCP":                     {get("/mcp"), 200},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := raw(t, address, c.request)
			if err != nil || got.status != c.want {
				t.Fatalf("got %+v, %v; want %d", got, err, c.want)
			}
			if c.want != 200 && (got.header.Get("Content-Type") != "application/problem+json" || !strings.Contains(got.body, `"reason":"malformed_call"`)) {
				t.Errorf("not a problem of ours: %+v", got)
			}
		})
	}
}

func adminIsClosed(t *testing.T, runDir string) {
	for _, c := range []struct{ method, path string }{
		{"GET", "/config_dump"}, {"GET", "/certs"}, {"GET", "/clusters"}, {"POST", "/quitquitquit"}, {"POST", "/logging?level=debug"},
		{"POST", "/healthcheck/fail"}, {"GET", "/"}, {"GET", "/memory"}, {"POST", "/cpuprofiler?enable=y"},
	} {
		got, err := adminGet(t, runDir, c.method, c.path)
		if err != nil || got.status != 403 {
			t.Errorf("%s %s: %d, %v", c.method, c.path, got.status, err)
		}
	}
	got, err := adminGet(t, runDir, "GET", "/stats/prometheus")
	if err != nil || got.status != 200 || !strings.Contains(got.body, "envoy_control_plane_connected_state{} 1") {
		t.Errorf("metrics: %d, %v", got.status, err)
	}
}

func files(t *testing.T, w *world, s running) {
	for name, want := range map[string]os.FileMode{
		"": 0o700, "bootstrap.json": 0o600, "admin.sock": 0o600, "identity.sock": 0o600,
	} {
		info, err := os.Stat(filepath.Join(s.config.RunDir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v, %v", name, info.Mode(), err)
		}
	}
	if text, err := os.ReadFile(filepath.Join(s.config.RunDir, "bootstrap.json")); err != nil || bytes.Contains(text, []byte("PRIVATE")) {
		t.Error("the bootstrap holds a key")
	}
	all, err := os.ReadFile(s.CABundle)
	if err != nil || !bytes.HasSuffix(all, w.ca) || bytes.Count(all, []byte("BEGIN CERT")) < 2 {
		t.Errorf("the bundle is not the system's roots and the CA: %d bytes, %v", len(all), err)
	}
	if own, err := os.ReadFile(s.CAFile); err != nil || !bytes.Equal(own, w.ca) {
		t.Errorf("the CA file is not the CA: %v", err)
	}
}

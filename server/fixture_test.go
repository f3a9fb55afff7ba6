package server_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
)

// world is a running API and how these tests talk to it.
type world struct{ *servertest.API }

func newWorld(t testing.TB) world {
	t.Helper()
	return world{servertest.Start(t)}
}

const local = servertest.Local

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
	server.Problem
}

// do sends a request; headers are pairs.
func (w world) do(c *http.Client, method, url, body string, headers ...string) answer {
	w.T.Helper()
	req, err := http.NewRequestWithContext(w.T.Context(), method, url, strings.NewReader(body))
	w.Must(err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
			continue
		}
		req.Header.Add(headers[i], headers[i+1])
	}
	resp, err := c.Do(req)
	w.Must(err)
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode, header: resp.Header}
	a.body, err = io.ReadAll(resp.Body)
	w.Must(err)
	if resp.Header.Get("Content-Type") == "application/problem+json" {
		w.Must(json.Unmarshal(a.body, &a.Problem))
	}
	return a
}

// into decodes a success and fails on anything else.
func (a answer) into(t testing.TB, status int, v any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// task starts a task through a sidecar.
func (w world) task(c *http.Client) server.StartedTask {
	w.T.Helper()
	var t server.StartedTask
	w.do(c, "POST", w.URL+"/v1/tasks", `{"type":"triage","claimed":{"purpose":"look"},"timeout":"10m"}`).into(w.T, 201, &t)
	return t
}

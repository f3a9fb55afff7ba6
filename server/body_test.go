package server

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A long poll outlasts the time in which its body had to arrive.
func TestTheReadDeadlineEndsWithTheBody(t *testing.T) {
	t.Parallel()
	const deadline = 50 * time.Millisecond
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req, p := checkBody(&recorder{ResponseWriter: w}, req, bodyOptional)
		if p != nil {
			p.write(w)
			return
		}
		select {
		case <-req.Context().Done():
			t.Error("the request was given up")
		case <-time.After(4 * deadline): // nothing happens in this time, and that is the point
		}
	}))
	srv.Config.ReadTimeout = deadline
	srv.Start()
	defer srv.Close()
	for _, body := range []string{"", "{}"} {
		resp, err := http.Post(srv.URL, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
}

func TestABodyThatComesTooSlowlyIsRefused(t *testing.T) {
	t.Parallel()
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, p := checkBody(w, req, bodyRequired); p != nil {
			p.write(w)
		}
	}))
	srv.Config.ReadTimeout = 50 * time.Millisecond
	srv.Start()
	defer srv.Close()
	body, pen := io.Pipe()
	defer pen.Close()
	go func() { _, _ = pen.Write([]byte("{")) }() // and then nothing more
	resp, err := http.Post(srv.URL, "application/json", body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestTimeout {
		t.Errorf("status %d", resp.StatusCode)
	}
}

package service

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// Access is one request as the service saw it. Subject, grant, task and jti are
// of a token that was verified; empty otherwise.
type Access struct {
	Method  string `json:"method"`
	Path    string `json:"path"`
	Host    string `json:"host"`
	Proto   string `json:"proto"`
	Subject string `json:"subject,omitempty"`
	Grant   string `json:"grant,omitempty"`
	Task    string `json:"task,omitempty"`
	JTI     string `json:"jti,omitempty"`
	Status  int    `json:"status"` // 0 while it is not known
	// Refused says why a token did not do; never what it was.
	Refused string `json:"refused,omitempty"`
	// Headers are the names that arrived, in order of the alphabet.
	Headers []string `json:"headers"`
	// Authorizations counts the Authorization headers.
	Authorizations int       `json:"authorizations"`
	Events         int       `json:"events,omitempty"` // of a stream
	Started        time.Time `json:"started"`
	Ended          time.Time `json:"ended,omitzero"`
}

// accessLog keeps the log in memory and prints each request as it ends.
type accessLog struct {
	out io.Writer

	mu      sync.Mutex
	entries []*Access
	changed chan struct{} // closed at the next change
}

func newAccessLog(out io.Writer) *accessLog {
	return &accessLog{out: out, changed: make(chan struct{})}
}

func (l *accessLog) begin(r *http.Request, now time.Time) *Access {
	a := &Access{
		Method: r.Method, Path: r.URL.Path, Host: r.Host, Proto: r.Proto, Headers: []string{},
		Authorizations: len(r.Header.Values("Authorization")), Started: now,
	}
	for name := range r.Header {
		a.Headers = append(a.Headers, name)
	}
	slices.Sort(a.Headers)
	l.change(func() { l.entries = append(l.entries, a) })
	return a
}

// change is the only way to write to an entry.
func (l *accessLog) change(fn func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fn()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *accessLog) end(a *Access, status int, now time.Time) {
	l.change(func() {
		a.Status, a.Ended = status, now
		if l.out != nil {
			_ = json.NewEncoder(l.out).Encode(a) // a log that cannot be printed is still kept
		}
	})
}

func (l *accessLog) list() []Access {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.copied()
}

func (l *accessLog) copied() []Access {
	entries := make([]Access, len(l.entries))
	for i, a := range l.entries {
		entries[i] = *a
	}
	return entries
}

func (l *accessLog) await(ctx context.Context, cond func([]Access) bool) ([]Access, error) {
	for {
		l.mu.Lock()
		entries, changed := l.copied(), l.changed
		l.mu.Unlock()
		if cond(entries) {
			return entries, nil
		}
		select {
		case <-ctx.Done():
			return entries, ctx.Err()
		case <-changed:
		}
	}
}

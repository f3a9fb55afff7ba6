package e2e

import (
	"bufio"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/test/stack"
)

// stream is an event stream as the agent's program sees it.
type stream struct {
	mu      sync.Mutex
	events  int
	last    time.Time // of the last event
	changed chan struct{}
	over    chan struct{} // closed when nothing more can come
}

// readEvents reads events until there are no more, then finish lets the program
// go. At the test's end stop ends what is still open.
func readEvents(t testing.TB, from io.Reader, stop, finish func() error) *stream {
	s := &stream{changed: make(chan struct{}), over: make(chan struct{})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines := bufio.NewScanner(from)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "data:") {
				s.event()
			}
		}
		close(s.over)
		_ = finish() // how a cut looks depends on the program
	}()
	t.Cleanup(func() {
		if s.open() {
			_ = stop() // it may have ended just now
		}
		select {
		case <-done:
		case <-time.After(stack.Patience):
			t.Error("the program with the stream does not end")
		}
	})
	return s
}

func (s *stream) event() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events, s.last = s.events+1, time.Now()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stream) state() (events int, last time.Time, changed chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.events, s.last, s.changed
}

// awaitEvents returns once n more events came; the stream must stay open.
func (s *stream) awaitEvents(t testing.TB, n int) {
	t.Helper()
	before, _, _ := s.state()
	late := time.After(stack.Patience)
	for {
		events, _, changed := s.state()
		if events >= before+n {
			return
		}
		select {
		case <-changed:
		case <-s.over:
			t.Fatalf("the stream ended after %d events", events)
		case <-late:
			t.Fatalf("no event came after %d", events)
		}
	}
}

// awaitEnd returns the time of the last event once the stream is over.
func (s *stream) awaitEnd(t testing.TB) time.Time {
	t.Helper()
	select {
	case <-s.over:
	case <-time.After(stack.Patience):
		t.Fatal("the stream is still open")
	}
	_, last, _ := s.state()
	return last
}

// open reports whether the stream goes on.
func (s *stream) open() bool {
	select {
	case <-s.over:
		return false
	default:
		return true
	}
}

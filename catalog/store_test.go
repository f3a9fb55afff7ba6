package catalog

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/store"
)

// The whole way: a folder, the election, the store, and its index. A restart
// with a broken folder keeps what is in force.
func TestPublishedToTheStore(t *testing.T) {
	t.Parallel()
	dir, data := goodFolder(t), filepath.Join(t.TempDir(), "data")
	var revision string
	runWithStore(t, dir, data, func(p *Publisher, s *store.Store) {
		state, err := p.First(t.Context())
		if err != nil || state.Err() != nil {
			t.Fatalf("%+v %v", state, err)
		}
		revision = state.Revision
		awaitCatalog(t, s, revision)
		write(t, dir, "more.yaml", provider, 0o644)
		state, err = p.Wait(t.Context(), func(s State) bool { return s.Revision != revision })
		if err != nil {
			t.Fatal(err)
		}
		revision = state.Revision
		awaitCatalog(t, s, revision)
	})
	write(t, dir, "more.yaml", "kind: [", 0o644)
	runWithStore(t, dir, data, func(p *Publisher, s *store.Store) {
		state, err := p.First(t.Context())
		if err != nil || len(state.Errors) == 0 {
			t.Fatalf("%+v %v", state, err)
		}
		awaitCatalog(t, s, revision)
	})
}

func runWithStore(t *testing.T, dir, data string, fn func(*Publisher, *store.Store)) {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPublisher(PublisherConfig{Dir: dir, Store: s, Lead: s.Lead, Clock: s.Now, Interval: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	defer func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	fn(p, s)
}

// awaitCatalog waits until the index serves the revision.
func awaitCatalog(t *testing.T, s *store.Store, revision string) {
	t.Helper()
	changes := s.Index().Subscribe()
	defer changes.Close()
	for {
		if c := s.Index().Catalog(); c != nil && c.Revision() == revision {
			return
		}
		if _, err := changes.Next(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

package catalog

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/exeat-dev/exeat/policy"
)

// fakeStore takes catalogs, unless it is told to refuse them.
type fakeStore struct {
	mu      sync.Mutex
	sources [][]byte
	refuse  error
}

func (s *fakeStore) PublishCatalog(_ context.Context, source []byte) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return 0, s.refuse
	}
	s.sources = append(s.sources, source)
	return int64(len(s.sources)), nil
}

func (s *fakeStore) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

func (s *fakeStore) published() [][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]byte(nil), s.sources...)
}

// safeBuffer is a log that may be read while it is written.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

type publisherTest struct {
	*Publisher
	dir   string
	store *fakeStore
	log   *safeBuffer
}

// startPublisher runs a publisher of dir until the test ends.
func startPublisher(t *testing.T, dir string, st *fakeStore) publisherTest {
	t.Helper()
	log := &safeBuffer{}
	p, err := NewPublisher(PublisherConfig{
		Dir: dir, Store: st, Interval: 5 * time.Millisecond, Registry: prometheus.NewRegistry(),
		Log: slog.New(slog.NewJSONHandler(log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return publisherTest{p, dir, st, log}
}

// wait fails the test when cond does not come true.
func (p publisherTest) wait(t *testing.T, cond func(State) bool) State {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := p.Wait(ctx, cond)
	if err != nil {
		t.Fatalf("state: %+v", s)
	}
	return s
}

func valueOf(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetGauge().GetValue() + out.GetCounter().GetValue()
}

func loadedOnce(s State) bool { return !s.LoadedAt.IsZero() }

func TestPublishesAtStart(t *testing.T) {
	t.Parallel()
	p := startPublisher(t, goodFolder(t), &fakeStore{})
	s, err := p.First(t.Context())
	if err != nil || s.Err() != nil || s.Published != 1 || !strings.HasPrefix(s.Revision, "c_") {
		t.Fatalf("%+v %v", s, err)
	}
	set, err := policy.DecodeSet(p.store.published()[0])
	if err != nil {
		t.Fatal(err)
	}
	compiled, problems := policy.Compile(set)
	if problems != nil || compiled.Revision() != s.Revision {
		t.Errorf("what was published compiles to something else: %v", problems)
	}
	if got := valueOf(t, p.success); got != 1 {
		t.Errorf("success gauge is %v", got)
	}
}

func TestPublishesWhatChanged(t *testing.T) {
	t.Parallel()
	p := startPublisher(t, goodFolder(t), &fakeStore{})
	first := p.wait(t, loadedOnce)
	write(t, p.dir, "more.yaml", provider, 0o644)
	second := p.wait(t, func(s State) bool { return s.Published == 2 })
	if second.Revision == first.Revision {
		t.Error("another catalog has the same revision")
	}
}

// A certificate is part of the catalog, though it is in no YAML file.
func TestPublishesAnotherCertificate(t *testing.T) {
	t.Parallel()
	p := startPublisher(t, goodFolder(t), &fakeStore{})
	p.wait(t, loadedOnce)
	ca, err := os.ReadFile(filepath.Join(p.dir, "certs/ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, p.dir, "certs/ca.pem", string(ca)+string(ca), 0o644)
	p.wait(t, func(s State) bool { return s.Published == 2 })
}

func TestBrokenChangeKeepsTheLastGoodOne(t *testing.T) {
	t.Parallel()
	p := startPublisher(t, goodFolder(t), &fakeStore{})
	good := p.wait(t, loadedOnce)
	write(t, p.dir, "broken.yaml", "kind: [", 0o644)
	bad := p.wait(t, func(s State) bool { return s.Err() != nil })
	if bad.Revision != good.Revision || bad.Published != good.Published {
		t.Errorf("in force: %+v, want what was good", bad)
	}
	if n := len(p.store.published()); n != 1 {
		t.Errorf("published %d times, want once", n)
	}
	if valueOf(t, p.success) != 0 || valueOf(t, p.failures) != 1 {
		t.Error("the metrics do not show the failure")
	}
	if log := p.log.String(); !strings.Contains(log, "catalog not loaded") || !strings.Contains(log, "broken.yaml:1: not YAML") {
		t.Errorf("the log does not say why: %s", log)
	}
	if err := os.Remove(filepath.Join(p.dir, "broken.yaml")); err != nil {
		t.Fatal(err)
	}
	p.wait(t, func(s State) bool { return s.Err() == nil && s.Revision == good.Revision })
	if valueOf(t, p.success) != 1 {
		t.Error("the metric does not show the recovery")
	}
}

// A start with a broken folder leaves alone what the store holds.
func TestBrokenStartPublishesNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.yaml", "kind: Agent", 0o644)
	p := startPublisher(t, dir, &fakeStore{})
	s, err := p.First(t.Context())
	if err != nil || len(s.Errors) == 0 || s.Revision != "" {
		t.Fatalf("%+v %v", s, err)
	}
	write(t, dir, "a.yaml", provider, 0o644)
	p.wait(t, func(s State) bool { return s.Published == 1 })
	if n := len(p.store.published()); n != 1 {
		t.Errorf("published %d times, want once", n)
	}
}

func TestRefusedByTheStoreIsTriedAgain(t *testing.T) {
	t.Parallel()
	full := errors.New("the store is full")
	st := &fakeStore{refuse: full}
	p := startPublisher(t, goodFolder(t), st)
	if s := p.wait(t, loadedOnce); !errors.Is(s.Err(), full) || valueOf(t, p.failures) != 1 {
		t.Fatalf("%+v", s)
	}
	st.fail(nil)
	p.wait(t, func(s State) bool { return s.Err() == nil && s.Published == 1 })
}

// Kubernetes changes a mounted ConfigMap by swapping one link.
func TestConfigMapSwap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "..1/a.yaml", provider, 0o644)
	write(t, dir, "..2/a.yaml", strings.ReplaceAll(provider, "name: p", "name: q"), 0o644)
	link(t, "..1", filepath.Join(dir, "..data"))
	link(t, "..data/a.yaml", filepath.Join(dir, "a.yaml"))
	p := startPublisher(t, dir, &fakeStore{})
	p.wait(t, loadedOnce)
	link(t, "..2", filepath.Join(dir, "..new"))
	if err := os.Rename(filepath.Join(dir, "..new"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	p.wait(t, func(s State) bool { return s.Published == 2 })
}

func TestLeadsUnderTheElection(t *testing.T) {
	t.Parallel()
	names := make(chan string, 1)
	p, err := NewPublisher(PublisherConfig{Dir: goodFolder(t), Store: &fakeStore{},
		Lead: func(_ context.Context, name string, _ func(context.Context)) { names <- name }})
	if err != nil {
		t.Fatal(err)
	}
	p.Run(t.Context())
	if name := <-names; name != "catalog" || !p.State().LoadedAt.IsZero() {
		t.Errorf("election %q; without leadership nothing is read", name)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.First(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("First of one who does not lead: %v", err)
	}
}

func TestPublisherNeedsFolderAndStore(t *testing.T) {
	t.Parallel()
	if _, err := NewPublisher(PublisherConfig{Dir: "x"}); err == nil {
		t.Error("no store was fine")
	}
	if _, err := NewPublisher(PublisherConfig{Store: &fakeStore{}}); err == nil {
		t.Error("no folder was fine")
	}
}

// Package storetest runs the real store, on the real embedded etcd, for other
// packages' tests, with a small catalog, tasks and grants to begin with.
package storetest

import (
	"log/slog"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/embedded"
)

// Staleness of the stores made here: short, yet long enough for a busy machine.
const Staleness = time.Second

// Option changes a store's configuration before it is opened.
type Option func(*store.Config)

// WithWall gives the store another wall clock.
func WithWall(wall func() time.Time) Option { return func(c *store.Config) { c.Wall = wall } }

// WithStaleness gives the store another staleness bound.
func WithStaleness(d time.Duration) Option { return func(c *store.Config) { c.Staleness = d } }

// WithQuota bounds etcd, in bytes.
func WithQuota(bytes int64) Option { return func(c *store.Config) { c.QuotaBytes = bytes } }

// WithDir keeps the data in dir, so that it can be opened again after Close.
func WithDir(dir string) Option { return func(c *store.Config) { c.Dir = dir } }

// WithSeen opens the store with a state that a record elsewhere vouches for.
func WithSeen(s store.State) Option { return func(c *store.Config) { c.Seen = s } }

// Open opens a store in a folder of the test, and closes it when the test ends.
func Open(t testing.TB, opts ...Option) *store.Store {
	t.Helper()
	cfg := config(t, "replica-0", opts)
	if cfg.Dir == "" {
		cfg.Dir = Dir(t)
	}
	return open(t, cfg)
}

// Dir gives a folder that a store accepts.
func Dir(t testing.TB) string { return filepath.Join(t.TempDir(), "store") }

// Cluster opens n stores, replicas of one etcd, as in production: each
// follows, beats and acknowledges for itself, under its own lease.
func Cluster(t testing.TB, n int, opts ...Option) []*store.Store {
	t.Helper()
	quota := config(t, "", opts).QuotaBytes
	etcd, err := embedded.Start(t.Context(), embedded.Config{Dir: Dir(t), QuotaBytes: quota, Log: logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(etcd.Close)
	stores := make([]*store.Store, n)
	for i := range stores {
		cfg := config(t, "replica-"+strconv.Itoa(i), opts)
		cfg.Client = etcd.Client()
		stores[i] = open(t, cfg)
	}
	return stores
}

func config(t testing.TB, replica string, opts []Option) store.Config {
	cfg := store.Config{Replica: replica, Staleness: Staleness, Log: logger(t)}
	for _, o := range opts {
		o(&cfg)
	}
	return cfg
}

func open(t testing.TB, cfg store.Config) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

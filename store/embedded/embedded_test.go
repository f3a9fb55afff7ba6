package embedded

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
)

// lines is a writer that several goroutines log to.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestItKeepsWhatWasWrittenAndSaysNothing(t *testing.T) {
	t.Parallel()
	out := new(lines)
	cfg := Config{Dir: filepath.Join(t.TempDir(), "etcd"), Log: slog.New(slog.NewJSONHandler(out, nil))}
	var cluster uint64
	for round := range 3 {
		s, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Client().Get(t.Context(), "k")
		if err != nil || len(r.Kvs) != min(round, 1) {
			t.Fatalf("round %d: %v, %v", round, r, err)
		}
		if cluster != 0 && r.Header.ClusterId != cluster {
			t.Error("the cluster has another ID than before")
		}
		cluster = r.Header.ClusterId
		if _, err := s.Client().Put(t.Context(), "k", "v"); err != nil {
			t.Fatal(err)
		}
		s.Close()
		s.Close() // once is enough, twice does no harm
		<-s.Stopped()
	}
	if out.String() != "" {
		t.Errorf("nothing was wrong, and it said:\n%s", out)
	}
}

func TestNoTwoFoldersAreTheSameCluster(t *testing.T) {
	t.Parallel()
	seen := make(map[uint64]bool)
	for range 2 {
		s, err := Start(t.Context(), Config{Dir: filepath.Join(t.TempDir(), "etcd")})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		r, err := s.Client().Get(t.Context(), "k")
		if err != nil {
			t.Fatal(err)
		}
		seen[r.Header.ClusterId] = true
	}
	if len(seen) != 2 {
		t.Error("two folders have one cluster ID")
	}
}

func TestStartEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if s, err := Start(ctx, Config{Dir: filepath.Join(t.TempDir(), "etcd")}); err == nil {
		s.Close() // it was ready before it looked
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestWarningsComeThroughWithTheirFields(t *testing.T) {
	t.Parallel()
	out := new(lines)
	log := zapTo(slog.New(slog.NewJSONHandler(out, nil))).With(zap.String("member", "one"))
	log.Info("all is well")
	log.Warn("Failed to detect schema version")
	log.Warn("slow disk", zap.Int("ms", 7))
	log.Error("no disk")
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != 2 || !strings.Contains(got[0], `"level":"WARN","msg":"etcd: slow disk","etcd":{"member":"one","ms":7}`) ||
		!strings.Contains(got[1], `"level":"ERROR","msg":"etcd: no disk"`) {
		t.Errorf("got %q", got)
	}
}

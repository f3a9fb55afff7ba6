package stack

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// WriteFiles writes files by name into a folder, which it makes. Each appears
// whole: somebody may be watching.
func WriteFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		tmp := filepath.Join(dir, "."+name+".new")
		if err := os.WriteFile(tmp, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// EditCatalog replaces text in one of the catalog's files.
func (s *Stack) EditCatalog(t testing.TB, file, old, replacement string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.Catalog, file))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(b), old) {
		t.Fatalf("%s holds no %q", file, old)
	}
	WriteFiles(t, s.Catalog, map[string]string{file: strings.ReplaceAll(string(b), old, replacement)})
}

// Metrics reads a page of exeatd's metrics address, such as /metrics.
func (s *Stack) Metrics(t testing.TB, path string) Reply {
	t.Helper()
	req, err := http.NewRequestWithContext(Context(t), http.MethodGet, s.Endpoints.Metrics+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return Reply{Err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return Reply{Status: resp.StatusCode, Proto: resp.Proto, Header: resp.Header, Body: body, Err: err}
}

// AwaitMetrics returns such a page once cond holds of its text. There is nobody
// to tell us when: it looks again and again.
func (s *Stack) AwaitMetrics(t testing.TB, path string, cond func(text string) bool) string {
	t.Helper()
	text := ""
	Await(t, path+" of exeatd", func() bool {
		text = string(s.Metrics(t, path).Body)
		return cond(text)
	})
	return text
}

// Await looks until cond holds, for what nobody tells us of: other processes,
// files, clocks. It fails the test when patience ends.
func Await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx := Context(t)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited in vain for %s", what)
		case <-tick.C:
		}
	}
}

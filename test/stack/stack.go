// Package stack runs whole systems for tests: real exeatd, exeat-sidecar and
// Envoy processes over the tickets example. Whatever a test starts here ends
// with the test.
package stack

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/examples/tickets/world"
)

// Patience bounds anything that a test waits for. It is no promise: on a busy
// machine everything may be slow.
const Patience = 60 * time.Second

// Stack is a running exeatd with the ticket service.
type Stack struct {
	*world.World
	Log *Log // exeatd's
}

// Start starts one with further flags of exeatd dev.
func Start(t testing.TB, flags ...string) *Stack {
	t.Helper()
	return StartWith(t, nil, flags...)
}

// StartWith is Start with further files in the catalog, by their names.
func StartWith(t testing.TB, files map[string]string, flags ...string) *Stack {
	t.Helper()
	log, dir := &Log{}, t.TempDir()
	writeCatalog(t, dir, files)
	w, err := world.Start(Context(t), world.Options{Bin: Bin(t), Dir: dir, Log: log, Flags: flags})
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Errorf("close: %v\n%s", err, log)
		}
		if t.Failed() {
			t.Logf("exeatd said:\n%s", log)
		}
	})
	return &Stack{World: w, Log: log}
}

func writeCatalog(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	catalog := filepath.Join(dir, "catalog") // as world has it
	if err := os.MkdirAll(catalog, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(catalog, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// Context ends with the test, or when patience does.
func Context(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	t.Cleanup(cancel)
	return ctx
}

// Bin is the folder of the programs under test: EXEAT_BIN, else the
// repository's bin, built now.
func Bin(t testing.TB) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

var binaries = sync.OnceValues(func() (string, error) {
	if dir := os.Getenv("EXEAT_BIN"); dir != "" {
		return dir, nil
	}
	dir := filepath.Join(Root(), "bin")
	cmd := exec.Command("go", "build", "-o", dir+"/", "./cmd/...")
	cmd.Dir = Root()
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return dir, cmd.Run()
})

// Root is the repository's folder.
func Root() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// Log keeps what a process writes.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

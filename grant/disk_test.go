package grant_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/exeat-dev/exeat/store"
)

// fullDisk makes every write to the audit log fail as on a full disk, until the
// function that it gives is called: under the log's open file is another one.
func (w *world) fullDisk() (free func()) {
	w.t.Helper()
	fd := w.segment()
	kept, err := syscall.Dup(fd)
	w.must(err)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	w.must(err)
	defer full.Close()
	w.must(syscall.Dup3(int(full.Fd()), fd, syscall.O_CLOEXEC))
	return func() {
		w.t.Helper()
		w.must(syscall.Dup3(kept, fd, syscall.O_CLOEXEC))
		w.must(syscall.Close(kept))
	}
}

// segment is the descriptor that this process writes the audit log through.
func (w *world) segment() int {
	w.t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	w.must(err)
	for _, e := range list {
		path, err := os.Readlink(filepath.Join("/proc/self/fd", e.Name()))
		if err == nil && strings.HasPrefix(path, filepath.Join(w.dir, "audit")) && strings.HasSuffix(path, ".jsonl") {
			fd, err := strconv.Atoi(e.Name())
			w.must(err)
			return fd
		}
	}
	w.t.Fatal("the audit log is not open")
	return 0
}

// fillStore writes until etcd takes nothing but deletions.
func (w *world) fillStore() {
	w.t.Helper()
	b, blob := w.store.Bucket("filler"), bytes.Repeat([]byte("x"), 128<<10)
	for n := 0; ; n++ {
		_, err := b.Swap(w.ctx, strconv.Itoa(n), 0, blob)
		if errors.Is(err, store.ErrFull) {
			return
		}
		w.must(err)
	}
}

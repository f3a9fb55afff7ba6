package audit

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// file is what the writer needs of a file.
type file interface {
	Write(b []byte) (int, error)
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error
}

// openFile makes or continues a segment.
func openFile(path string) (file, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return f, nil
}

// folder is the log's folder, locked, with the segment that is written to.
type folder struct {
	dir string
	key ed25519.PrivateKey
	// fresh: the key was just made, so there can be no log yet.
	fresh bool
	lock  *os.File
	open  func(path string) (file, error)

	mu   sync.Mutex // cur and path, between the writer and the head's keeper
	cur  file
	path string
	good int64 // bytes of cur that are whole records; guarded by mu

	size int64 // the same, the writer's alone
	torn bool  // the file may hold more than good
}

// openFolder locks dir and reads its key. Everything in it must be ours alone.
func openFolder(dir string, open func(string) (file, error)) (*folder, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("audit folder: %w", err)
	}
	if err := allPrivate(dir); err != nil {
		return nil, err
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit lock: %w", err)
	}
	// The lock goes with the process, however it dies.
	if syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		return nil, errors.Join(ErrLocked, lock.Close())
	}
	key, fresh, err := openKey(dir)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return &folder{dir: dir, key: key, fresh: fresh, lock: lock, open: open}, nil
}

// allPrivate refuses a folder that others may enter or that holds a file that
// others may open.
func allPrivate(dir string) error {
	if err := private(dir); err != nil {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("audit folder: %w", err)
	}
	for _, f := range list {
		if err := private(filepath.Join(dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// private refuses a path that anyone but its owner may use, or a link.
func private(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	mode := info.Mode()
	if mode.Perm()&0o077 != 0 || mode&^(fs.ModeDir|fs.ModePerm) != 0 {
		return fmt.Errorf("%w: %s is %v; it must be 0600 (a folder 0700)", ErrMode, filepath.Base(path), mode)
	}
	return nil
}

const segmentSuffix = ".jsonl"

// segment is one file of the log, named by its first record.
type segment struct {
	path  string
	first int64
}

// segments lists the log's files in order.
func segments(dir string) ([]segment, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []segment
	for _, f := range list {
		number, ok := strings.CutSuffix(f.Name(), segmentSuffix)
		if !ok {
			continue
		}
		first, err := strconv.ParseInt(number, 10, 64)
		if err != nil || first < 1 {
			return nil, fmt.Errorf("%s is no file of this log; move it away", f.Name())
		}
		out = append(out, segment{path: filepath.Join(dir, f.Name()), first: first})
	}
	slices.SortFunc(out, func(a, b segment) int { return int(a.first - b.first) })
	return out, nil
}

// next begins the segment whose first record has number first.
func (f *folder) next(first int64) error {
	path := filepath.Join(f.dir, fmt.Sprintf("%016d%s", first, segmentSuffix))
	if info, err := os.Lstat(path); err == nil && info.Size() > 0 {
		return fmt.Errorf("%s is in the way", filepath.Base(path))
	}
	return f.use(path, 0)
}

// use goes on in the file at path after its first size bytes. The file before
// it is put on disk first: the head may then rely on it. If anything fails, that
// file stays in use.
func (f *folder) use(path string, size int64) error {
	cur, err := f.open(path)
	if err != nil {
		return err
	}
	// The file's name must survive a loss of power, too.
	if err := errors.Join(syncDir(f.dir), f.sync()); err != nil {
		return errors.Join(err, cur.Close())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur != nil {
		_ = f.cur.Close() // all of it is on disk
	}
	f.cur, f.path, f.good, f.size, f.torn = cur, path, size, size, false
	return nil
}

// append writes lines whole or not at all: what a failed write left is cut off
// before anything else is written.
func (f *folder) append(lines []byte, toDisk bool) error {
	if f.torn {
		if err := f.cur.Truncate(f.size); err != nil {
			return err
		}
		f.torn = false
	}
	// After a failed fsync nobody knows what is on disk, and a second fsync may
	// say that all is well: the bytes are cut off and written again.
	_, err := f.cur.Write(lines)
	if err == nil && toDisk {
		err = f.cur.Sync()
	}
	if err != nil {
		f.torn = f.cur.Truncate(f.size) != nil
		return err
	}
	f.size += int64(len(lines))
	f.mu.Lock()
	f.good = f.size
	f.mu.Unlock()
	return nil
}

// sync puts what is written so far on disk.
func (f *folder) sync() error {
	f.mu.Lock()
	cur := f.cur
	f.mu.Unlock()
	if cur == nil {
		return nil
	}
	if err := cur.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err // a closed one was put on disk before
	}
	return nil
}

// inPlace reports whether the current file is still the one at its path, with
// all that was written to it.
func (f *folder) inPlace() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur == nil {
		return true
	}
	mine, err := f.cur.Stat()
	if err != nil {
		return true // not known to be gone
	}
	there, err := os.Lstat(f.path)
	return err == nil && os.SameFile(mine, there) && there.Size() >= f.good
}

// close puts everything on disk and lets the lock go.
func (f *folder) close() error {
	err := f.sync()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cur != nil {
		err = errors.Join(err, f.cur.Close())
		f.cur = nil
	}
	return errors.Join(err, f.lock.Close())
}

// writeFile puts a file in place whole and on disk, readable by its owner.
func writeFile(dir, name string, b []byte) error {
	tmp := filepath.Join(dir, name+".new")
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, name))
}

// syncDir puts the names in dir on disk.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

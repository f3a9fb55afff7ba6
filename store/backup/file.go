// Package backup keeps a copy of the store in one file and puts it back. What
// comes back permits nothing that was permitted before: see Restore.
//
// The file is a tar archive of metadata.json and snapshot.db. The latter is
// what etcd's snapshot API gave, which etcd's own tools read. Keys are not in
// it; task credentials are, so it is as secret as the store itself.
package backup

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/exeat-dev/exeat/store/embedded"
)

// Info says what a backup holds.
type Info struct {
	Format   int       `json:"format"` // 1
	Made     time.Time `json:"made"`
	Exeat    string    `json:"exeat"` // version of the program that made it
	Revision int64     `json:"revision"`
	Keys     int       `json:"keys"`
	Bytes    int64     `json:"bytes"`  // of snapshot.db
	SHA256   string    `json:"sha256"` // of snapshot.db, hex
}

const (
	format       = 1
	metadataName = "metadata.json"
	snapshotName = "snapshot.db"
	maxMetadata  = 64 << 10
)

// ErrLags: the copy is of a member that had not yet heard of the latest changes.
var ErrLags = errors.New("the snapshot is of a member that lags behind; try again, or name another endpoint")

// ErrBackup: a file is no backup, or was damaged.
var ErrBackup = errors.New("not a whole backup")

// Save writes a backup to path, whole or not at all, readable by this user
// alone. take copies the store and gives the latest change that must be in the
// copy, as store.Store.Snapshot does.
func Save(path, version string, take func(io.Writer) (latest int64, err error)) (Info, error) {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return Info{}, fmt.Errorf("%s is there already: choose another name", path)
	}
	work, err := os.MkdirTemp(filepath.Dir(path), ".exeat-backup-")
	if err != nil {
		return Info{}, err
	}
	defer os.RemoveAll(work)
	snapshot := filepath.Join(work, snapshotName)
	info := Info{Format: format, Made: time.Now().UTC(), Exeat: version}
	if err := info.copy(snapshot, take); err != nil {
		return Info{}, err
	}
	tmp := filepath.Join(work, "backup")
	if err := info.pack(snapshot, tmp); err != nil {
		return Info{}, err
	}
	return info, os.Rename(tmp, path)
}

// copy takes the snapshot and looks at what it is.
func (i *Info) copy(path string, take func(io.Writer) (int64, error)) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	sum := sha256.New()
	latest, err := take(io.MultiWriter(f, sum))
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if i.Revision, i.Keys, err = embedded.Look(path); err != nil {
		return err
	}
	if i.Revision < latest {
		return ErrLags
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	i.Bytes, i.SHA256 = info.Size(), hex.EncodeToString(sum.Sum(nil))
	return nil
}

// pack puts both parts into one file, on disk.
func (i *Info) pack(snapshot, to string) error {
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	in, err := os.Open(snapshot)
	if err != nil {
		return err
	}
	defer in.Close()
	meta, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return err
	}
	w := tar.NewWriter(out)
	for _, part := range []struct {
		name string
		size int64
	}{{metadataName, int64(len(meta))}, {snapshotName, i.Bytes}} {
		if err := w.WriteHeader(&tar.Header{Name: part.name, Mode: 0o600, Size: part.size, ModTime: i.Made}); err != nil {
			return err
		}
		if part.name == metadataName {
			_, err = w.Write(meta)
		} else {
			_, err = io.Copy(w, in)
		}
		if err != nil {
			return err
		}
	}
	return errors.Join(w.Close(), out.Sync())
}

// unpack writes the snapshot of a backup to a file, having checked it.
func unpack(path, to string) (Info, error) {
	var i Info
	f, err := os.Open(path)
	if err != nil {
		return i, err
	}
	defer f.Close()
	r := tar.NewReader(f)
	if err := part(r, metadataName); err != nil {
		return i, err
	}
	if err := json.NewDecoder(io.LimitReader(r, maxMetadata)).Decode(&i); err != nil {
		return i, fmt.Errorf("%w: its %s cannot be read", ErrBackup, metadataName)
	}
	if i.Format != format {
		return i, fmt.Errorf("%w: it is of format %d and this program reads %d; use the exeatd that made it (%s)", ErrBackup, i.Format, format, i.Exeat)
	}
	if err := part(r, snapshotName); err != nil {
		return i, err
	}
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return i, err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), r)
	if err = errors.Join(err, out.Close()); err != nil {
		return i, fmt.Errorf("%w: %w", ErrBackup, err)
	}
	if n != i.Bytes || hex.EncodeToString(sum.Sum(nil)) != i.SHA256 {
		return i, fmt.Errorf("%w: its snapshot is not the one that its %s speaks of", ErrBackup, metadataName)
	}
	return i, nil
}

// part goes to the next part, which must have that name.
func part(r *tar.Reader, name string) error {
	h, err := r.Next()
	if err != nil || h.Name != name {
		return fmt.Errorf("%w: it holds no %s where that should be", ErrBackup, name)
	}
	return nil
}

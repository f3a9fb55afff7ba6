package backup

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/embedded"
)

// Restoration says what to put back, and where: one of Dir and Members.
type Restoration struct {
	In string // the backup
	// Dir is the data folder of an embedded store, as in store.Config.
	Dir string
	// Members of a cluster, each made a folder of its name under To.
	Members []Member
	To      string
	// Seen is the latest state that a record outside the store vouches for:
	// revisions go on above it.
	Seen store.State
	Log  *slog.Logger
}

// Member is one member of the cluster that is to be.
type Member struct{ Name, PeerURL string }

// Report is what came of a restoration.
type Report struct {
	Backup Info
	store.Fenced
	Folders []string // that were made
}

// bump is by how much revisions are raised: more than any store of ours makes
// between a backup and its restoration. (It is what etcd's manual advises.)
const bump = 1_000_000_000

// quota of the etcd that a restored store is fenced in: room for the endings,
// however full the store was.
const quota = 8 << 30

// Restore makes data folders from a backup. In what they hold, every task and
// every grant has ended: one that was revoked after the backup would be active
// again otherwise. Folders that hold something are refused, and so is a data
// folder that a process uses.
func Restore(ctx context.Context, r Restoration) (Report, error) {
	if r.Log == nil {
		r.Log = slog.New(slog.DiscardHandler)
	}
	parent, free, err := r.prepare()
	if err != nil {
		return Report{}, err
	}
	defer free()
	work, err := os.MkdirTemp(parent, ".exeat-restore-")
	if err != nil {
		return Report{}, err
	}
	defer os.RemoveAll(work)
	out := Report{}
	snapshot := filepath.Join(work, snapshotName)
	if out.Backup, err = unpack(r.In, snapshot); err != nil {
		return Report{}, fmt.Errorf("%s: %w", r.In, err)
	}
	raise := uint64(bump)
	if ahead := r.Seen.Revision - out.Backup.Revision; ahead > 0 {
		raise += uint64(ahead)
	}
	dir := filepath.Join(work, "etcd")
	if err := embedded.Restore(embedded.Restoration{Snapshot: snapshot, Dir: dir, Bump: raise, Log: r.Log}); err != nil {
		return Report{}, err
	}
	fenced := filepath.Join(work, "fenced.db")
	if out.Fenced, err = r.fence(ctx, dir, fenced); err != nil {
		return Report{}, err
	}
	out.Folders, err = r.place(dir, fenced)
	return out, err
}

// prepare refuses what is in use or not empty, and gives the folder to work in.
func (r *Restoration) prepare() (parent string, free func(), err error) {
	if r.Dir != "" {
		unlock, err := store.Lock(r.Dir)
		if err != nil {
			return "", nil, fmt.Errorf("%s: %w; stop it first", r.Dir, err)
		}
		if err := vacant(store.EtcdDir(r.Dir)); err != nil {
			unlock()
			return "", nil, err
		}
		return r.Dir, unlock, nil
	}
	if len(r.Members) == 0 || r.To == "" {
		return "", nil, errors.New("restore: neither a data folder nor members are named")
	}
	for _, m := range r.Members {
		if m.Name == "" || m.Name != filepath.Base(m.Name) || !strings.Contains(m.PeerURL, "://") {
			return "", nil, fmt.Errorf("restore: member %q: want NAME=PEER-URL", m.Name+"="+m.PeerURL)
		}
		if err := vacant(filepath.Join(r.To, m.Name)); err != nil {
			return "", nil, err
		}
	}
	return r.To, func() {}, os.MkdirAll(r.To, 0o700)
}

// vacant wants no folder, or an empty one.
func vacant(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) || err == nil && len(list) == 0 {
		return nil
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s holds a store already: move it away first, and keep it until the restored one works", dir)
}

// fence ends in the restored store what must not come back, and for a cluster
// copies it once more.
func (r *Restoration) fence(ctx context.Context, dir, copyTo string) (f store.Fenced, err error) {
	server, err := embedded.Start(ctx, embedded.Config{Dir: dir, QuotaBytes: quota, Log: r.Log})
	if err != nil {
		return f, err
	}
	defer server.Close()
	if f, err = store.Fence(ctx, server.Client(), r.Seen, time.Now()); err != nil || r.Dir != "" {
		return f, err
	}
	out, err := os.OpenFile(copyTo, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return f, err
	}
	defer out.Close()
	s, err := store.Copy(ctx, server.Client(), out)
	if err == nil && s < f.State.Revision {
		err = ErrLags // cannot be: there is one member
	}
	return f, err
}

// place moves what was made to where it belongs.
func (r *Restoration) place(dir, fenced string) ([]string, error) {
	if r.Dir != "" {
		to := store.EtcdDir(r.Dir)
		_ = os.Remove(to) // an empty one, if any
		return []string{to}, os.Rename(dir, to)
	}
	var all []string
	for _, m := range r.Members {
		all = append(all, m.Name+"="+m.PeerURL)
	}
	var made []string
	token := rand.Text() // into the cluster's ID, which is another than before
	for _, m := range r.Members {
		to := filepath.Join(r.To, m.Name)
		err := embedded.Restore(embedded.Restoration{
			Snapshot: fenced, Dir: to, Bump: 1, Log: r.Log,
			Name: m.Name, PeerURL: m.PeerURL, Cluster: strings.Join(all, ","), Token: token,
		})
		if err != nil {
			return made, err
		}
		made = append(made, to)
	}
	return made, nil
}

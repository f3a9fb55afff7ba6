package embedded

import (
	"crypto/rand"
	"fmt"
	"log/slog"

	"go.etcd.io/etcd/etcdutl/v3/snapshot"
)

// Restoration is a snapshot on its way into a data folder.
type Restoration struct {
	Snapshot string // file, as etcd's snapshot API gave it
	Dir      string // must be absent or empty
	// Bump is by how much revisions are raised, so that none is ever used
	// twice. What was before counts as compacted: whoever follows loads anew.
	Bump uint64
	Log  *slog.Logger

	// Of a member of a cluster; empty for an embedded one.
	Name, PeerURL, Cluster, Token string
}

// Restore makes the data folder of one member.
func Restore(r Restoration) error {
	if r.Name == "" {
		r.Name, r.PeerURL, r.Cluster, r.Token = member, nowhere, member+"="+nowhere, rand.Text()
	}
	err := snapshot.NewV3(zapTo(r.Log)).Restore(snapshot.RestoreConfig{
		SnapshotPath: r.Snapshot, OutputDataDir: r.Dir, Name: r.Name, PeerURLs: []string{r.PeerURL},
		InitialCluster: r.Cluster, InitialClusterToken: r.Token, RevisionBump: r.Bump, MarkCompacted: true,
	})
	if err != nil {
		return fmt.Errorf("restore member %s: %w", r.Name, err)
	}
	return nil
}

// Look reads what a snapshot holds: the revision of its latest change, and
// the number of keys.
func Look(file string) (revision int64, keys int, err error) {
	s, err := snapshot.NewV3(zapTo(nil)).Status(file)
	if err != nil {
		return 0, 0, fmt.Errorf("the snapshot cannot be read: %w", err)
	}
	return s.Revision, s.TotalKey, nil
}

package audit

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Names of the files beside the segments.
const (
	headName = "head"
	keyName  = "head.key"
	lockName = "lock"
)

var errHead = errors.New("head is not as it was signed")

// head says how far the log goes. Signed, it shows a cut tail.
type head struct {
	Seq    int64     `json:"seq"`
	Hash   string    `json:"hash"` // of record Seq, hex
	Time   time.Time `json:"time"`
	Closed bool      `json:"closed"` // nothing may follow

	// The highest store revision in any record, and the history that it is of.
	Cluster uint64 `json:"cluster,omitempty"`
	Epoch   string `json:"epoch,omitempty"`
	Store   int64  `json:"store"`
}

// history names the store's history that revisions are of.
type history struct {
	cluster uint64
	epoch   string
}

// Seen is the latest state of the store that the log vouches for. A store that
// is behind it, or is of another history, was restored from a backup.
type Seen struct {
	Cluster  uint64
	Epoch    string
	Revision int64
}

// Seen gives what the log vouches for; the zero value when it knows of none.
func (l *Log) Seen() Seen {
	h := l.head.Load()
	if h.Epoch == "" {
		return Seen{}
	}
	return Seen{Cluster: h.Cluster, Epoch: h.Epoch, Revision: h.Store}
}

// SeenIn is Seen of a log that is not open: the store's state must be known
// before the store is opened, and that may be before the log is. It is the zero
// value when there is no log, or no head that can be trusted.
func SeenIn(dir string) Seen {
	key, err := PublicKey(dir)
	if err != nil {
		return Seen{}
	}
	h, err := readHead(dir, key)
	if err != nil || h.Epoch == "" {
		return Seen{}
	}
	return Seen{Cluster: h.Cluster, Epoch: h.Epoch, Revision: h.Store}
}

// SetHistory says of which history of the store all revisions are from now on.
// It is called once, after Seen and before anything of that store is recorded.
func (l *Log) SetHistory(cluster uint64, epoch string) {
	l.history.Store(&history{cluster: cluster, epoch: epoch})
}

// signedHead is the file: the signature is over the bytes of Head.
type signedHead struct {
	Head      json.RawMessage `json:"head"`
	Signature []byte          `json:"signature"`
}

// headContext keeps a signature from meaning anything else.
const headContext = "exeat audit head v1\n"

// sign gives the head's file.
func (h *head) sign(key ed25519.PrivateKey) ([]byte, error) {
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signedHead{Head: b, Signature: ed25519.Sign(key, append([]byte(headContext), b...))})
}

// readHead gives the head of the log in dir; os.ErrNotExist when there is none,
// errHead when it is not ours.
func readHead(dir string, key ed25519.PublicKey) (*head, error) {
	b, err := os.ReadFile(filepath.Join(dir, headName))
	if err != nil {
		return nil, err
	}
	var s signedHead
	if json.Unmarshal(b, &s) != nil || !ed25519.Verify(key, append([]byte(headContext), s.Head...), s.Signature) {
		return nil, errHead
	}
	h := new(head)
	if json.Unmarshal(s.Head, h) != nil {
		return nil, errHead
	}
	return h, nil
}

// writeHead signs where the log now ends and puts it in place of the old head,
// once the records themselves are on disk: a head must never be ahead of them.
func (l *Log) writeHead() error {
	l.headMu.Lock()
	defer l.headMu.Unlock()
	h := l.head.Load()
	if err := l.folder.sync(); err != nil {
		return err
	}
	b, err := h.sign(l.folder.key)
	if err != nil {
		return err
	}
	return writeFile(l.cfg.Dir, headName, b)
}

// keepHead writes the head whenever it has lagged for the time configured, and
// looks whether the log's file is still in its place.
func (l *Log) keepHead() {
	defer close(l.ended)
	tick := time.NewTicker(l.cfg.HeadEvery)
	defer tick.Stop()
	last := l.head.Load()
	for {
		select {
		case <-l.stopped:
			return
		case <-tick.C:
		}
		if !l.folder.inPlace() {
			l.misplaced.Store(true)
		}
		now := l.head.Load()
		if now == last {
			continue
		}
		if err := l.writeHead(); err != nil {
			l.metrics.failures.Inc()
			continue // the next tick tries again
		}
		last = now
	}
}

// PublicKey reads the key that the heads of the log in dir are signed with. Who
// verifies should have it from before, and from elsewhere.
func PublicKey(dir string) (ed25519.PublicKey, error) {
	key, err := readKey(filepath.Join(dir, keyName))
	if err != nil {
		return nil, err
	}
	return key.Public().(ed25519.PublicKey), nil
}

// readKey reads a signing key that is nobody else's to read.
func readKey(path string) (ed25519.PrivateKey, error) {
	if err := private(path); err != nil {
		return nil, err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	seed, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(b)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, fmt.Errorf("%s holds no signing key; move it away only together with the whole log", keyName)
	}
	return ed25519.NewKeyFromSeed(seed), nil
}

// openKey reads the signing key, or makes it.
func openKey(dir string) (key ed25519.PrivateKey, fresh bool, err error) {
	key, err = readKey(filepath.Join(dir, keyName))
	if !errors.Is(err, os.ErrNotExist) {
		return key, false, err
	}
	if _, key, err = ed25519.GenerateKey(nil); err != nil {
		return nil, false, err
	}
	if err := writeFile(dir, keyName, []byte(base64.StdEncoding.EncodeToString(key.Seed())+"\n")); err != nil {
		return nil, false, err
	}
	return key, true, syncDir(dir)
}

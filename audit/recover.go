package audit

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// found is what a reopened log turns out to be.
type found struct {
	chain
	last   segment // where to go on; no path: in a new file
	size   int64   // of last, whole records
	torn   int64   // bytes after those
	broken bool    // up to the head something is not as it was written
	none   bool    // there is no record at all
}

// recover finds the end of the log, moves a torn one aside, and records what it
// saw. Whatever it saw, the log goes on: to stop would make a damaged file a
// way to stop everybody.
func (l *Log) recover() error {
	segs, err := segments(l.cfg.Dir)
	if err != nil {
		return err
	}
	h, headErr := readHead(l.cfg.Dir, l.folder.key.Public().(ed25519.PublicKey))
	if headErr != nil && !errors.Is(headErr, os.ErrNotExist) && !errors.Is(headErr, errHead) {
		return headErr
	}
	f, err := scan(segs, h)
	if err != nil {
		return err
	}
	gaps := l.judge(&f, h, headErr)
	l.chain = f.chain
	if err := l.resume(&f); err != nil {
		return err
	}
	l.tallies.rebuild(segs)
	if h != nil && h.Epoch != "" {
		l.in = &history{cluster: h.Cluster, epoch: h.Epoch}
		l.history.Store(l.in)
	}
	l.begin(gaps)
	return nil
}

// scan reads the log from the segment that holds the head's record on.
func scan(segs []segment, h *head) (found, error) {
	f := found{none: len(segs) == 0}
	if h != nil {
		f.store = h.Store
	}
	// Before the head's record all is Verify's to look at: to open the log must
	// not take longer the longer it is.
	from := 0
	for i, s := range segs {
		if h == nil || s.first <= max(1, h.Seq) {
			from = i
		}
	}
	for i, s := range segs[min(from, len(segs)):] {
		if err := f.read(s, h, i == 0); err != nil || f.broken {
			return f, err
		}
	}
	return f, nil
}

// read follows one segment. Where the chain does not go on it stops: up to the
// head that is tampering, after it a torn end.
func (f *found) read(s segment, h *head, begin bool) error {
	src, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer src.Close()
	if f.torn > 0 {
		f.broken = true // something follows a torn end
		return nil
	}
	f.last, f.size = s, 0
	if begin {
		f.seq = s.first - 1
	}
	lines := newLines(src)
	for {
		line, whole, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, errLong) {
			return err
		}
		if begin { // what comes before this segment is Verify's to look at
			_, f.prev, _ = position(line)
			begin = false
			f.broken = !f.atHead(h)
		}
		if !whole || !json.Valid(line) || !f.follow(line) {
			return f.stop(src, h)
		}
		f.size = lines.offset
		f.broken = f.broken || !f.atHead(h)
		if f.broken {
			return nil
		}
	}
}

// atHead reports whether, at the head's record, the chain is the head's.
func (f *found) atHead(h *head) bool {
	return h == nil || f.seq != h.Seq || hex.EncodeToString(f.prev[:]) == h.Hash
}

// stop ends the reading at a place where the chain does not go on.
func (f *found) stop(src *os.File, h *head) error {
	info, err := src.Stat()
	if err != nil {
		return err
	}
	f.torn = info.Size() - f.size
	f.broken = f.broken || h != nil && f.seq < h.Seq
	return nil
}

// judge compares what was found with the head, decides where the chain goes on,
// and says what is to be recorded.
func (l *Log) judge(f *found, h *head, headErr error) []Gap {
	if f.none && errors.Is(headErr, os.ErrNotExist) && l.folder.fresh {
		return nil // the very first start
	}
	var gaps []Gap
	switch {
	case headErr != nil:
		gaps = append(gaps, Gap{Kind: GapHead, Detail: "the signed head is missing or not signed with this folder's key"})
		return append(gaps, f.tornGap()...)
	case f.broken || h.Closed && f.seq > h.Seq:
		gaps = append(gaps, Gap{Kind: GapBroken, Detail: "records up to the signed head are not as they were written"})
	case f.seq < h.Seq:
		gaps = append(gaps, Gap{Kind: GapTruncated, Lost: int(h.Seq - f.seq), Detail: "the log ends before its signed head"})
	}
	if len(gaps) > 0 {
		// Go on where the head was, so that the break in the chain stays.
		f.seq, f.last, f.torn = max(f.seq, h.Seq), segment{}, 0
		_, _ = hex.Decode(f.prev[:], []byte(h.Hash))
	}
	gaps = append(gaps, f.tornGap()...)
	if !h.Closed {
		g := Gap{Kind: GapCrash, Since: h.Time, Until: l.cfg.Clock()}
		l.gaps.add(g)
		gaps = append(gaps, g)
	}
	return gaps
}

// tornGap tells of a torn end that is set aside.
func (f *found) tornGap() []Gap {
	if f.torn == 0 {
		return nil
	}
	return []Gap{{Kind: GapTorn, Bytes: f.torn, Detail: "moved to a file torn-*"}}
}

// resume opens the segment to go on in, without its torn end.
func (l *Log) resume(f *found) error {
	if f.torn > 0 {
		if err := l.setAside(f); err != nil {
			return err
		}
	}
	if f.last.path == "" {
		return l.folder.next(l.freeNumber())
	}
	return l.folder.use(f.last.path, f.size)
}

// freeNumber skips numbers whose file already exists: after tampering the chain
// may go on at a number that an earlier break used.
func (l *Log) freeNumber() int64 {
	for {
		path := filepath.Join(l.cfg.Dir, fmt.Sprintf("%016d%s", l.chain.seq+1, segmentSuffix))
		if info, err := os.Lstat(path); err != nil || info.Size() == 0 {
			return l.chain.seq + 1
		}
		l.chain.seq++
	}
}

// setAside keeps what is no record in a file of its own and cuts it off.
func (l *Log) setAside(f *found) error {
	src, err := os.OpenFile(f.last.path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	b := make([]byte, min(f.torn, 16<<20))
	if _, err := src.ReadAt(b, f.size); err != nil {
		return err
	}
	if err := writeFile(l.cfg.Dir, fmt.Sprintf("torn-%016d", f.seq+1), b); err != nil {
		return err
	}
	if err := src.Truncate(f.size); err != nil {
		return err
	}
	return src.Sync()
}

// begin hands the gaps to the writer and writes an open head. A disk that is
// full now is no error: the log opens, and denies until it works.
func (l *Log) begin(gaps []Gap) {
	now := l.cfg.Clock()
	for _, g := range gaps {
		g.Time = now
		l.cfg.Log.Warn("audit log has a gap", "gap", string(g.Kind), "bytes", g.Bytes, "lost", g.Lost)
		e := newEntry(typeGap)
		e.enc.gap(&g)
		l.keep(e)
	}
	l.head.Store(l.chain.head(now, l.in))
	if err := l.writeHead(); err != nil {
		l.metrics.failures.Inc()
		l.cfg.Log.Error("audit head not written", "error", err.Error())
		return
	}
	l.headed = true
}

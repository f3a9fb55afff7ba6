package audit

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Report is what Verify saw.
type Report struct {
	Segments int
	Records  int64
	// Head is the number of the last record that the signed head covers; what
	// follows is chained, but its loss would not show.
	Head int64
	// Gaps are the places where the log itself says that it is incomplete.
	Gaps []Gap
	// Torn is how many bytes at the very end are no whole record: a write
	// under way, or a crash from which the log was not opened again yet.
	Torn int64
}

// Tampered is the error of Verify: the first place where the log is not as it
// was written.
type Tampered struct {
	File string // base name; empty when it is about the log as a whole
	Line int    // from 1
	Seq  int64  // the record that should be there
	What string
}

func (t *Tampered) Error() string {
	if t.File == "" {
		return fmt.Sprintf("audit log: record %d: %s", t.Seq, t.What)
	}
	return fmt.Sprintf("audit log: %s:%d: record %d: %s", t.File, t.Line, t.Seq, t.What)
}

// Verify reads the whole log in dir and checks every record against the one
// before and the signed head. The error is a *Tampered for the first record
// that was edited, removed, added or moved, or for a cut tail; or says why the
// log cannot be read. key is from PublicKey, best kept elsewhere since before.
// The log may be in use meanwhile.
func Verify(dir string, key ed25519.PublicKey) (Report, error) {
	// The head first: records that come after it is read do no harm.
	h, err := readHead(dir, key)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Report{}, &Tampered{What: "the signed head is missing"}
	case errors.Is(err, errHead):
		return Report{}, &Tampered{What: "the head is not signed with this key"}
	case err != nil:
		return Report{}, err
	}
	segs, err := segments(dir)
	if err != nil {
		return Report{}, err
	}
	v := verifier{head: h, report: Report{Segments: len(segs), Head: h.Seq}}
	for i, s := range segs {
		if err := v.segment(s, i == len(segs)-1); err != nil {
			return v.report, err
		}
	}
	return v.report, v.ends()
}

// verifier follows a log from its first record to its last.
type verifier struct {
	chain
	head   *head
	report Report
}

// segment follows one file. Only at the very end of the last one may there be
// half a record: a write that is under way.
func (v *verifier) segment(s segment, last bool) error {
	src, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer src.Close()
	lines := newLines(src)
	for n := 1; ; n++ {
		line, whole, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil && !errors.Is(err, errLong) {
			return err
		}
		if !whole && last && v.seq >= v.head.Seq {
			v.report.Torn = int64(len(line))
			return nil
		}
		if what := v.record(line, whole); what != "" {
			return &Tampered{File: filepath.Base(s.path), Line: n, Seq: v.seq, What: what}
		}
	}
}

// record checks one line; what is wrong with it, or "".
func (v *verifier) record(line []byte, whole bool) string {
	seq, prev, ok := position(line)
	before := *v
	v.seq++
	switch {
	case !whole || !ok || !json.Valid(line):
		return "is no record"
	case seq != v.seq:
		return fmt.Sprintf("record %d stands in its place", seq)
	case prev != v.prev:
		return "does not follow from the record before: one of the two was changed"
	}
	v.chain = before.chain
	v.follow(line)
	v.report.Records++
	if v.seq == v.head.Seq && hex.EncodeToString(v.prev[:]) != v.head.Hash {
		return "is not the one that was signed"
	}
	if v.head.Closed && v.seq > v.head.Seq {
		return "was added after the log was closed"
	}
	return v.gap(line)
}

// gap notes a gap record; one that tells of tampering is tampering.
func (v *verifier) gap(line []byte) string {
	if !bytes.Contains(line, []byte(`"type":"gap"`)) {
		return ""
	}
	var p parsed
	if json.Unmarshal(line, &p) != nil || p.Unmapped.Type != typeGap {
		return ""
	}
	g := p.gap()
	v.report.Gaps = append(v.report.Gaps, g)
	if g.Kind.Tampering() {
		return "tells that the log was tampered with before: " + g.Detail
	}
	return ""
}

// ends checks that the log reaches its head.
func (v *verifier) ends() error {
	if v.seq < v.head.Seq {
		return &Tampered{Seq: v.seq + 1, What: fmt.Sprintf("is missing, as are all up to record %d, which was signed", v.head.Seq)}
	}
	if v.head.Seq == 0 && v.head.Hash != hex.EncodeToString(make([]byte, len(hash{}))) {
		return &Tampered{What: "the head is not that of an empty log"}
	}
	return nil
}

// errLong: a line is longer than any record.
var errLong = errors.New("line too long")

const maxLine = 1 << 20

// lines reads a segment line by line.
type lines struct {
	r      *bufio.Reader
	offset int64 // after the last whole line
}

func newLines(r io.Reader) *lines { return &lines{r: bufio.NewReaderSize(r, maxLine)} }

// next gives a line without its break; whole is false for what has none. The
// line is valid until the next call.
func (l *lines) next() (line []byte, whole bool, err error) {
	line, err = l.r.ReadSlice('\n')
	switch {
	case err == nil:
		l.offset += int64(len(line))
		return line[:len(line)-1], true, nil
	case errors.Is(err, bufio.ErrBufferFull):
		return line, false, errLong
	case err == io.EOF && len(line) > 0:
		return line, false, nil
	default:
		return nil, false, err
	}
}

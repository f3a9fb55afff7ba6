package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"
)

// hash is the SHA-256 of a record's line, without the line break.
type hash = [sha256.Size]byte

// chain is the end of the log: what the next record follows.
type chain struct {
	seq   int64 // of the last record, 0 before the first
	prev  hash  // of the last record, zero before the first
	store int64 // highest store revision in any record
}

// A line is: lineStart, the sequence number, lineMiddle, the previous record's
// hash in hex, lineRest, the body, lineEnd. The writer alone knows the number
// and the hash; callers encode the body meanwhile.
const (
	lineStart  = `{"metadata":{"sequence":`
	lineMiddle = `,"version":"` + ocsfVersion + `","profiles":["datetime","security_control"],` +
		`"product":{"name":"Exeat","vendor_name":"Exeat"}},"unmapped":{"prev":"`
	lineRest = `",`
	lineEnd  = "}\n"
	// prevKey begins with what no field before it can hold unescaped.
	prevKey = `},"unmapped":{"prev":"`
)

// append adds a record's line to b and moves the chain on to it.
func (c *chain) append(b, body []byte, store int64) []byte {
	start := len(b)
	b = append(b, lineStart...)
	b = strconv.AppendInt(b, c.seq+1, 10)
	b = append(b, lineMiddle...)
	b = hex.AppendEncode(b, c.prev[:])
	b = append(b, lineRest...)
	b = append(b, body...)
	b = append(b, lineEnd...)
	c.seq++
	c.prev = sha256.Sum256(b[start : len(b)-1])
	c.store = max(c.store, store)
	return b
}

func (c *chain) appendGap(b []byte, g *Gap) []byte {
	var e encoder
	e.gap(g)
	return c.append(b, e.b, 0)
}

func (c *chain) head(now time.Time, in *history) *head {
	h := &head{Seq: c.seq, Hash: hex.EncodeToString(c.prev[:]), Store: c.store, Time: now}
	if in != nil {
		h.Cluster, h.Epoch = in.cluster, in.epoch
	}
	return h
}

// follow checks that line is the record after c and moves on to it. It reads
// only what the writer put there, at the very place where it puts it.
func (c *chain) follow(line []byte) bool {
	seq, prev, ok := position(line)
	if !ok || seq != c.seq+1 || prev != c.prev {
		return false
	}
	c.seq, c.prev = seq, sha256.Sum256(line)
	return true
}

// position reads a line's sequence number and previous hash.
func position(line []byte) (seq int64, prev hash, ok bool) {
	rest, ok := bytes.CutPrefix(line, []byte(lineStart))
	if !ok {
		return 0, prev, false
	}
	number, rest, ok := bytes.Cut(rest, []byte{','})
	if !ok || len(number) == 0 || len(number) > 18 || number[0] == '0' {
		return 0, prev, false
	}
	for _, d := range number {
		if d < '0' || d > '9' {
			return 0, prev, false
		}
		seq = seq*10 + int64(d-'0')
	}
	_, rest, ok = bytes.Cut(rest, []byte(prevKey))
	if !ok || len(rest) < 2*len(prev) {
		return 0, prev, false
	}
	n, err := hex.Decode(prev[:], rest[:2*len(prev)])
	return seq, prev, err == nil && n == len(prev)
}

package audit

import (
	"crypto/ed25519"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// written makes a closed log of n decisions in several files.
func written(t *testing.T, n int) (dir string, key ed25519.PublicKey) {
	t.Helper()
	dir = folderOf(t)
	l := open(t, Config{Dir: dir, SegmentBytes: 4 << 10})
	for i := range n {
		d := sample("t_1", policy.Allowed)
		d.Request = fmt.Sprintf("r-%d", i+1)
		decide(t, l, d)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	key, err := PublicKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	return dir, key
}

// rewrite changes the lines of the log's file number n.
func rewrite(t *testing.T, dir string, n int, change func([]string) []string) {
	t.Helper()
	segs, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(segs[n].path)
	if err != nil {
		t.Fatal(err)
	}
	lines := change(strings.SplitAfter(strings.TrimSuffix(string(b), "\n"), "\n"))
	text := strings.TrimSuffix(strings.Join(lines, ""), "\n") + "\n"
	if len(lines) == 0 {
		text = ""
	}
	if err := os.WriteFile(segs[n].path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func edit(from, to string) func([]string) []string {
	return func(l []string) []string {
		l[1] = strings.Replace(l[1], from, to, 1)
		return l
	}
}

// rechained edits a record and computes every later hash anew, as anyone can.
func rechained(lines []string) []string {
	lines[1] = strings.Replace(lines[1], `"triage"`, `"mallory"`, 1)
	for i := 2; i < len(lines); i++ {
		_, old, _ := position([]byte(lines[i]))
		var c chain
		prev := strings.TrimSuffix(lines[i-1], "\n")
		seq, before, _ := position([]byte(prev))
		c.seq, c.prev = seq-1, before
		c.follow([]byte(prev))
		lines[i] = strings.Replace(lines[i], hex.EncodeToString(old[:]), hex.EncodeToString(c.prev[:]), 1)
	}
	return lines
}

func TestVerifyFindsTheFirstBadRecord(t *testing.T) {
	t.Parallel()
	last := func(dir string) int { segs, _ := segments(dir); return len(segs) - 1 }
	for name, c := range map[string]struct {
		tamper func(t *testing.T, dir string)
		seq    int64 // 0: not checked
	}{
		"a field is edited": {func(t *testing.T, dir string) {
			rewrite(t, dir, 0, edit(`"reason":"allowed"`, `"reason":"no_grant"`))
		}, 3},
		"one byte is flipped": {func(t *testing.T, dir string) { rewrite(t, dir, 0, edit("OPS-42", "OPS-43")) }, 3},
		"a record is removed": {func(t *testing.T, dir string) {
			rewrite(t, dir, 0, func(l []string) []string { return append(l[:1:1], l[2:]...) })
		}, 2},
		"two records change places": {func(t *testing.T, dir string) {
			rewrite(t, dir, 0, func(l []string) []string { l[1], l[2] = l[2], l[1]; return l })
		}, 2},
		"a record is there twice": {func(t *testing.T, dir string) {
			rewrite(t, dir, 0, func(l []string) []string { return append([]string{l[0], l[0]}, l[1:]...) })
		}, 2},
		"the first record is removed": {func(t *testing.T, dir string) {
			rewrite(t, dir, 0, func(l []string) []string { return l[1:] })
		}, 1},
		"a line that is no record is added": {func(t *testing.T, dir string) {
			rewrite(t, dir, 0, func(l []string) []string { return append([]string{l[0], "{}\n"}, l[1:]...) })
		}, 2},
		"a whole file is removed": {func(t *testing.T, dir string) {
			segs, _ := segments(dir)
			_ = os.Remove(segs[1].path)
		}, 0},
		"the first file is removed": {func(t *testing.T, dir string) {
			segs, _ := segments(dir)
			_ = os.Remove(segs[0].path)
		}, 1},
		"the last file is removed": {func(t *testing.T, dir string) {
			segs, _ := segments(dir)
			_ = os.Remove(segs[len(segs)-1].path)
		}, 0},
		"the tail is cut at a record": {func(t *testing.T, dir string) {
			rewrite(t, dir, last(dir), func(l []string) []string { return l[:len(l)-1] })
		}, 30},
		"the tail is cut within a record": {func(t *testing.T, dir string) {
			rewrite(t, dir, last(dir), func(l []string) []string { l[len(l)-1] = l[len(l)-1][:50]; return l })
		}, 30},
		"all hashes are computed anew": {func(t *testing.T, dir string) {
			segs, _ := segments(dir)
			for _, s := range segs[1:] {
				_ = os.Remove(s.path)
			}
			rewrite(t, dir, 0, rechained)
		}, 0},
		"the rest is computed anew to the end": {func(t *testing.T, dir string) { rewrite(t, dir, last(dir), rechained) }, 30},
		"records are added after the end": {func(t *testing.T, dir string) {
			rewrite(t, dir, last(dir), appended)
		}, 31},
		"the head is removed":   {func(t *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, headName)) }, 0},
		"the head is rewritten": {forgeHead, 0},
		"everything is emptied": {func(t *testing.T, dir string) { rewriteAll(t, dir) }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, key := written(t, 30)
			if _, err := Verify(dir, key); err != nil {
				t.Fatal(err)
			}
			c.tamper(t, dir)
			caught(t, dir, key, c.seq)

			// Whoever opens it then does not make it whole again.
			l := open(t, Config{Dir: dir})
			decide(t, l, sample("t_1", policy.Allowed))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			caught(t, dir, key, 0)
		})
	}
}

func caught(t *testing.T, dir string, key ed25519.PublicKey, seq int64) {
	t.Helper()
	_, err := Verify(dir, key)
	var bad *Tampered
	if !errors.As(err, &bad) {
		t.Fatalf("not found: %v", err)
	}
	if seq != 0 && bad.Seq != seq {
		t.Errorf("found %v, want record %d", bad, seq)
	}
}

// appended adds a well-chained record.
func appended(lines []string) []string {
	end := strings.TrimSuffix(lines[len(lines)-1], "\n")
	seq, prev, _ := position([]byte(end))
	c := chain{seq: seq - 1, prev: prev}
	c.follow([]byte(end))
	var e encoder
	d := sample("t_1", policy.Allowed)
	e.decision(&d)
	return append(lines[:len(lines)-1], end+"\n", string(c.append(nil, e.b, 0)))
}

func forgeHead(t *testing.T, dir string) {
	t.Helper()
	_, key, _ := ed25519.GenerateKey(nil)
	h := head{Seq: 10, Hash: strings.Repeat("0", 64), Time: time.Now()}
	b, err := h.sign(key)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, headName), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func rewriteAll(t *testing.T, dir string) {
	t.Helper()
	segs, _ := segments(dir)
	for i := range segs {
		rewrite(t, dir, i, func([]string) []string { return nil })
	}
}

func TestAWipedLogIsNoNewLog(t *testing.T) {
	t.Parallel()
	dir, key := written(t, 5)
	segs, _ := segments(dir)
	for _, s := range segs {
		if err := os.Remove(s.path); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(dir, headName)); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Dir: dir})
	flush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	caught(t, dir, key, 0)
}

func TestAnotherKeyDoesNotVerify(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 5)
	_, other := written(t, 5)
	caught(t, dir, other, 0)
}

func TestARunningLogVerifies(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	l := open(t, Config{Dir: dir, SegmentBytes: 4 << 10, HeadEvery: time.Millisecond})
	key, err := PublicKey(dir)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		decide(t, l, sample("t_1", policy.Allowed))
		if _, err := Verify(dir, key); err != nil {
			t.Fatal(err)
		}
	}
}

// Someone removes or shortens the file while the log is in use: the log does
// not go on into nowhere.
func TestAFileTakenAwayIsNoticed(t *testing.T) {
	t.Parallel()
	for name, take := range map[string]func(path string) error{
		"removed": os.Remove,
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"moved":   func(path string) error { return os.Rename(path, path+".old") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folderOf(t)
			l := open(t, Config{Dir: dir, HeadEvery: time.Millisecond})
			decide(t, l, sample("t_1", policy.Allowed))
			segs, _ := segments(dir)
			if err := take(segs[0].path); err != nil {
				t.Fatal(err)
			}
			until(t, l.misplaced.Load)
			d := sample("t_1", policy.Allowed)
			decide(t, l, d)
			lines := readAll(t, dir)
			if got := parse(t, lines[len(lines)-1]).Unmapped.Decision; got != d.ID {
				t.Errorf("the last record is of %q", got)
			}
			key, _ := PublicKey(dir)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			caught(t, dir, key, 0)
		})
	}
}

// until waits for a condition that another goroutine brings about.
func until(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("it never came")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestTheHeadHoldsNothingSecret(t *testing.T) {
	t.Parallel()
	dir, _ := written(t, 1)
	b, err := os.ReadFile(filepath.Join(dir, headName))
	if err != nil {
		t.Fatal(err)
	}
	var s map[string]any
	if err := json.Unmarshal(b, &s); err != nil || len(s) != 2 {
		t.Errorf("head %s", b)
	}
}

package grant_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// lines gives the audit log's records that mention something.
func (w *world) lines(word string) []string {
	w.t.Helper()
	w.must(w.audit.Flush(w.ctx))
	var out []string
	w.must(filepath.WalkDir(filepath.Join(w.dir, "audit"), func(path string, d os.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || filepath.Ext(path) == ".new") {
			return nil // the head is replaced all the time
		}
		if err != nil {
			return err
		}
		b, err := os.ReadFile(path)
		for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
			if json.Valid(s.Bytes()) && strings.Contains(s.Text(), word) {
				out = append(out, s.Text())
			}
		}
		return err
	}))
	return out
}

func containsAll(text string, words ...string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

func TestEveryChangeIsOnRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	_, _, err := w.End(w.ctx, c, g.ID)
	w.must(err)
	_, err = w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "other"}, 0)
	if err == nil {
		t.Fatal("granted")
	}
	_, err = w.EndTask(w.ctx, c, task.ID, policy.EndFailed)
	w.must(err)
	if got := w.lines(string(g.ID)); len(got) != 2 || !containsAll(got[0], "active", "read-ticket", "support") || !containsAll(got[1], "ended", "completed") {
		t.Errorf("of the grant: %s", strings.Join(got, "\n"))
	}
	all := w.lines(string(task.ID))
	refused, failed := false, false
	for _, line := range all {
		refused = refused || containsAll(line, "refused", policy.CodeNotEligible)
		failed = failed || !strings.Contains(line, "g_") && containsAll(line, "ended", "failed")
		if strings.Contains(line, task.Credential.Expose()) {
			t.Error("the record holds the task's credential")
		}
	}
	if !refused || !failed {
		t.Errorf("refused %v, failed %v: %s", refused, failed, strings.Join(all, "\n"))
	}
}

func TestAnUnwritableRecordStopsNoEnding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	w.closeAudit() // takes no more, as a disk that is full
	_, e, err := w.End(w.ctx, c, g.ID)
	w.must(err)
	r, err := w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	if e.Enforced.IsZero() || r.Ending.Enforced.IsZero() || r.Task.State != policy.Ended {
		t.Errorf("got %+v, %+v", e, r)
	}
}

// What a crash has taken from the record is written again from the store.
func TestLostTransitionsAreWrittenAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	w.must(w.audit.Flush(w.ctx))
	lost := filepath.Join(w.dir, "audit-before")
	w.must(os.CopyFS(lost, os.DirFS(filepath.Join(w.dir, "audit")))) // what the disk has when the process dies
	task, c := w.task(triage1, 0)
	g := w.granted(c, task, 0)
	_, err := w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	w.stop()

	w.must(os.RemoveAll(filepath.Join(w.dir, "audit")))
	w.must(os.Rename(lost, filepath.Join(w.dir, "audit")))
	w.must(onlyMine(filepath.Join(w.dir, "audit")))
	w.open()
	w.until(task.ID, func(v *policy.TaskView) bool { return v != nil })
	recovered := func(id string) (n int) {
		for _, line := range w.lines(id) {
			if strings.Contains(line, `"recovered":true`) {
				n++
			}
		}
		return n
	}
	// Began and ended: twice the grant's, and with it twice the task's.
	w.eventually(func() bool { return recovered(string(g.ID)) == 2 && recovered(string(task.ID)) == 4 })
}

// onlyMine makes a copy as private as what it was made of.
func onlyMine(dir string) error {
	return filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Chmod(path, 0o700)
		}
		return os.Chmod(path, 0o600)
	})
}

// eventually asks until something holds that nobody announces.
func (w *world) eventually(cond func() bool) {
	w.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(long)
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline:
			w.t.Fatal("it never came to it")
		}
	}
}

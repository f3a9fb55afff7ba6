package robustness

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// exeatd runs one of its commands and gives what it printed.
func exeatd(t *testing.T, bin string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(stack.Context(t), filepath.Join(bin, "exeatd"), args...)
	cmd.Env = append(os.Environ(), "EXEAT_DATA=", "EXEAT_CONFIG=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mustExeatd(t *testing.T, bin string, args ...string) string {
	t.Helper()
	out, err := exeatd(t, bin, args...)
	if err != nil {
		t.Fatalf("exeatd %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// What was revoked, completed or simply under way at the time of a backup has
// ended after its restoration, stays so, and the record says why.
func TestNothingComesBackFromABackup(t *testing.T) {
	t.Parallel()
	s := stack.Start(t)
	sidecar := s.Sidecar(t, "triage")
	revoked, completed, live := sidecar.Task(t), sidecar.Task(t), sidecar.Task(t)
	grant := revoked.ReadTicket(t, "OPS-1")
	completed.ReadTicket(t, "OPS-2")
	live.ReadTicket(t, "OPS-3")
	file := filepath.Join(t.TempDir(), "backup")
	out := mustExeatd(t, s.Bin, "backup", "--out", file, "--data", s.Data)
	if !strings.Contains(out, "keys of roles authz and xds are not in it") {
		t.Errorf("it said %s", out)
	}
	wantNoKeys(t, file, s.Data)
	operator, err := s.Operator()
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	if _, err := operator.RevokeGrant(stack.Context(t), grant.ID); err != nil {
		t.Fatal(err)
	}
	completed.Complete(t)

	if out, err := exeatd(t, s.Bin, "restore", "--in", file, "--data", s.Data); err == nil || !strings.Contains(out, "another process uses this data folder") {
		t.Fatalf("over a running exeatd: %v %s", err, out)
	}
	if err := s.StopExeatd(); err != nil {
		t.Fatal(err)
	}
	if out, err := exeatd(t, s.Bin, "restore", "--in", file, "--data", s.Data); err == nil || !strings.Contains(out, "move it away first") {
		t.Fatalf("over a store: %v %s", err, out)
	}
	if err := os.Rename(filepath.Join(s.Data, "etcd"), filepath.Join(s.Data, "etcd.old")); err != nil {
		t.Fatal(err)
	}
	out = mustExeatd(t, s.Bin, "restore", "--in", file, "--data", s.Data)
	if !strings.Contains(out, "3 tasks and 3 grants have ended") {
		t.Errorf("it said %s", out)
	}
	for range 2 { // and stays so
		if err := s.StartExeatd(stack.Context(t)); err != nil {
			t.Fatal(err)
		}
		wantAllEnded(t, s, sidecar, revoked, completed, live)
		if err := s.StopExeatd(); err != nil {
			t.Fatal(err)
		}
	}
	wantRestoreOnRecord(t, filepath.Join(s.Data, "audit"), live.ID)
}

// wantAllEnded wants the tasks ended and denied, and new ones to work.
func wantAllEnded(t *testing.T, s *stack.Stack, sidecar *stack.Sidecar, tasks ...*stack.Task) {
	t.Helper()
	operator, err := s.Operator()
	if err != nil {
		t.Fatal(err)
	}
	defer operator.Close()
	stack.Await(t, "the sidecar to come back", func() bool {
		list, err := operator.Sidecars(stack.Context(t))
		return err == nil && len(list) == 1
	})
	for i, k := range tasks {
		now, err := operator.Task(stack.Context(t), k.ID)
		if err != nil || now.State != "ended" {
			t.Errorf("task %d is %s, %v", i, now.State, err)
		}
		for _, g := range now.Grants {
			if g.State != "ended" {
				t.Errorf("grant %s of task %d is %s", g.ID, i, g.State)
			}
		}
		if r := stack.Get(t, k.HTTP(t), stack.Tickets+"OPS-1"); r.Err == nil && r.Status < 400 {
			t.Errorf("a call of task %d came through: %d %s", i, r.Status, r.Body)
		}
	}
	task := sidecar.Task(t)
	task.ReadTicket(t, "OPS-4")
	if r := stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-4"); r.Err != nil || r.Denial().Reason != "" {
		t.Errorf("a new grant's call: %d %s %v", r.Status, r.Body, r.Err)
	}
	task.Complete(t)
}

// wantNoKeys looks for the keys' bytes in a file.
func wantNoKeys(t *testing.T, file, data string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup's mode is %v, %v", info.Mode(), err)
	}
	for _, name := range []string{"authz.key", "xds.key"} {
		key, err := os.ReadFile(filepath.Join(data, "keys", name))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), string(key)) {
			t.Errorf("%s is in the backup", name)
		}
	}
}

// wantRestoreOnRecord looks for the gap and for the end of a task that nobody
// but the restoration ended.
func wantRestoreOnRecord(t *testing.T, dir, task string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	restored, ended := 0, 0
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, `"gap":"restored"`) {
				restored++
			}
			if strings.Contains(line, `"task":"`+task+`"`) && strings.Contains(line, `"to":"ended"`) && strings.Contains(line, `"end":"revoked"`) {
				ended++
			}
		}
	}
	if restored != 1 || ended == 0 {
		t.Errorf("the record speaks of %d restorations, want 1, and %d times of the end of the live task", restored, ended)
	}
}

func TestABackupIsRefused(t *testing.T) {
	t.Parallel()
	bin, dir := stack.Bin(t), t.TempDir()
	write := func(name, text string) string {
		stack.WriteFiles(t, dir, map[string]string{name: text})
		return filepath.Join(dir, name)
	}
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"of a folder without a store": {[]string{"backup", "--out", filepath.Join(dir, "b"), "--data", filepath.Join(dir, "none")}, "no store is at"},
		"over a file":                 {[]string{"backup", "--out", write("there", ""), "--data", dir}, "is there already"},
		"of another kind":             {[]string{"restore", "--in", write("text", "hello"), "--data", filepath.Join(dir, "x")}, "not a whole backup"},
		"to nowhere":                  {[]string{"restore", "--in", "f"}, "where is the backup to be put"},
		"to two places":               {[]string{"restore", "--in", "f", "--members", "a=http://a:1", "--to", dir, "--data", dir}, "goes with --to alone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if out, err := exeatd(t, bin, c.args...); err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%v: %s, want %q", err, out, c.want)
			}
		})
	}
}

// A cluster is copied while it serves, and put back as one whose members agree.
func TestAClusterIsPutBack(t *testing.T) {
	t.Parallel()
	c := stack.StartCluster(t, stack.ClusterOptions{Members: 3, Roles: []string{"api", "xds", "authz"}, Staleness: staleness})
	sidecar := c.Sidecar(t, "triage", "one")
	task := sidecar.Task(t)
	grant := task.ReadTicket(t, "OPS-1")
	file := filepath.Join(t.TempDir(), "backup")
	mustExeatd(t, c.Bin, "backup", "--out", file, "--config", c.Exeatds[0].Config)
	if _, err := c.Exeatds[0].Operator(t).RevokeGrant(stack.Context(t), grant.ID); err != nil {
		t.Fatal(err)
	}
	for _, e := range c.Exeatds {
		e.End(t)
	}
	for _, m := range c.Etcd.Members {
		m.End(t)
		if err := os.Rename(m.Dir, m.Dir+".old"); err != nil {
			t.Fatal(err)
		}
	}
	mustExeatd(t, c.Bin, "restore", "--in", file, "--members", c.Etcd.Initial(), "--to", c.Etcd.Dir)
	for _, m := range c.Etcd.Members {
		m.Start(t)
	}
	c.Etcd.AwaitReady(t)
	for _, e := range c.Exeatds {
		e.Start(t)
	}
	for _, e := range c.Exeatds {
		e.AwaitReady(t)
	}
	operator := c.Exeatds[0].Operator(t)
	stack.Await(t, "the sidecar to come back", func() bool {
		list, err := operator.Sidecars(stack.Context(t))
		return err == nil && len(list) == 1
	})
	if now, err := operator.Task(stack.Context(t), task.ID); err != nil || now.State != "ended" {
		t.Errorf("the task is %s, %v", now.State, err)
	}
	if r := stack.Get(t, task.HTTP(t), stack.Tickets+"OPS-1"); r.Err == nil && r.Status < 400 {
		t.Errorf("a call came through: %d", r.Status)
	}
	again := sidecar.Task(t)
	again.ReadTicket(t, "OPS-2")
	stack.WantOK(t, stack.Get(t, again.HTTP(t), stack.Tickets+"OPS-2"))
	wantRestoreOnRecord(t, filepath.Join(c.Exeatds[0].Data, "audit"), task.ID)
}

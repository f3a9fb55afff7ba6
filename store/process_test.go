package store_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
	"go.uber.org/goleak"
)

// Tests that need a process of their own run this test binary again, with one
// of these parts to play.
const (
	partEnv = "EXEAT_STORE_TEST_PART"
	dirEnv  = "EXEAT_STORE_TEST_DIR"
)

var parts = map[string]func(dir string) error{"listen": playListen, "write": playWrite, "hold": playHold, "use": playUse}

func TestMain(m *testing.M) {
	if play := parts[os.Getenv(partEnv)]; play != nil {
		if err := play(os.Getenv(dirEnv)); err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// child starts this binary with a part. It is killed when the test ends.
func child(t *testing.T, part, dir string) (*exec.Cmd, *bufio.Scanner) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), partEnv+"="+part, dirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd, bufio.NewScanner(out)
}

func TestEmbeddedEtcdListensNowhere(t *testing.T) {
	t.Parallel()
	_, out := child(t, "listen", storetest.Dir(t))
	var got []string
	for out.Scan() {
		got = append(got, out.Text())
	}
	// The second reading is of a process that does listen: it shows that the
	// way of looking finds listeners.
	want := []string{"with a store: 0", "with listeners of TCP and Unix besides: 2"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got %q, want %q", got, want)
	}
}

func playListen(dir string) error {
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		return err
	}
	defer s.Close()
	if _, err := s.CreateTask(context.Background(), storetest.NewTask(s.Now())); err != nil {
		return err
	}
	n, err := listening()
	if err != nil {
		return err
	}
	fmt.Println("with a store:", n)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer tcp.Close()
	unix, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		return err
	}
	defer unix.Close()
	n, err = listening()
	fmt.Println("with listeners of TCP and Unix besides:", n)
	return err
}

// listening counts this process's sockets that accept connections or
// datagrams: those of /proc/self/fd that /proc/net lists as such.
func listening() (int, error) {
	open := make(map[string]bool)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0, err
	}
	for _, fd := range fds {
		if link, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(link, "socket:[") {
			open[strings.Trim(link, "socket:[]")] = true
		}
	}
	n := 0
	for _, table := range []struct {
		name         string
		column       int    // of the state or flags
		state        string // "" any
		inode, least int
	}{
		{"tcp", 3, "0A", 9, 10}, {"tcp6", 3, "0A", 9, 10}, // TCP_LISTEN
		{"udp", 3, "", 9, 10}, {"udp6", 3, "", 9, 10},
		{"unix", 3, "00010000", 6, 7}, // __SO_ACCEPTCON
	} {
		b, err := os.ReadFile("/proc/self/net/" + table.name)
		if errors.Is(err, os.ErrNotExist) {
			continue // a kernel without IPv6
		}
		if err != nil {
			return 0, err
		}
		for line := range strings.Lines(string(b)) {
			f := strings.Fields(line)
			if len(f) >= table.least && open[f[table.inode]] && (table.state == "" || f[table.column] == table.state) {
				n++
			}
		}
	}
	return n, nil
}

// What was answered as done is there after kill -9, and what had ended has.
func TestKillLosesNothing(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	live, ended := make(map[policy.TaskID]bool), make(map[policy.TaskID]bool)
	for range 2 {
		cmd, out := child(t, "write", dir)
		for n := 0; n < 60 && out.Scan(); n++ {
			did, id, _ := strings.Cut(out.Text(), " ")
			switch did {
			case "created":
				live[policy.TaskID(id)] = true
			case "ended":
				delete(live, policy.TaskID(id))
				ended[policy.TaskID(id)] = true
			default:
				t.Fatal(out.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
	}
	s := storetest.Open(t, storetest.WithDir(dir))
	if len(live) < 10 || len(ended) < 10 {
		t.Fatalf("only %d live and %d ended", len(live), len(ended))
	}
	for id := range ended {
		if v := s.Index().Task(id); v == nil || v.Task.State != policy.Ended {
			t.Fatalf("a task that had ended is %+v", v)
		}
	}
	lost := 0
	for id := range live {
		if v := s.Index().Task(id); v == nil {
			lost++
		}
	}
	if lost > 0 { // ended ones may be among them: the kill came between writing and telling
		t.Errorf("%d of %d created tasks are lost", lost, len(live))
	}
}

// playWrite creates tasks, ends every other one, and tells what is done, until
// it is killed.
func playWrite(dir string) error {
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		return err
	}
	for n := 0; ; n++ {
		task := storetest.NewTask(s.Now())
		if _, err := s.CreateTask(context.Background(), task); err != nil {
			return err
		}
		fmt.Println("created", task.ID)
		if n%2 == 0 {
			if _, _, err := s.ChangeTask(context.Background(), task.ID, end(s, policy.EndCompleted)); err != nil {
				return err
			}
			fmt.Println("ended", task.ID)
		}
	}
}

func TestASecondProcessOnTheSameFolderIsTurnedAway(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	cmd, out := child(t, "hold", dir)
	if !out.Scan() || out.Text() != "open" {
		t.Fatalf("the child said %q", out.Text())
	}
	_, err := store.Open(t.Context(), store.Config{Dir: dir})
	if !errors.Is(err, store.ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(cmd.Process.Pid)) {
		t.Errorf("got %v; want ErrLocked and process %d", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	storetest.Open(t, storetest.WithDir(dir)) // the lock went with the process
}

func playHold(dir string) error {
	s, err := store.Open(context.Background(), store.Config{Dir: dir})
	if err != nil {
		return err
	}
	fmt.Println("open")
	time.Sleep(time.Minute) // until killed; bounded should the parent be gone
	return s.Close()
}

func TestAFolderThatOthersCanEnterIsRefused(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), store.Config{Dir: dir}); !errors.Is(err, os.ErrPermission) {
		t.Errorf("got %v", err)
	}
	if _, err := store.Open(t.Context(), store.Config{}); err == nil {
		t.Error("a store without a place was opened")
	}
}

func TestWhatIsInTheFolderIsPrivate(t *testing.T) {
	t.Parallel()
	dir := storetest.Dir(t)
	storetest.Open(t, storetest.WithDir(dir))
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", d.Name(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

package audit

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"

	"github.com/exeat-dev/exeat/policy"
)

// The tests below run this binary again as the process that dies or whose disk
// is full.
const (
	envHelper = "EXEAT_AUDIT_HELPER"
	envDir    = "EXEAT_AUDIT_DIR"
)

func TestMain(m *testing.M) {
	switch os.Getenv(envHelper) {
	case "decide":
		decideForEver(os.Getenv(envDir))
	case "quota":
		os.Exit(fillQuota(os.Getenv(envDir)))
	default:
		os.Exit(m.Run())
	}
}

func helper(ctx context.Context, what, dir string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envHelper+"="+what, envDir+"="+dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// decideForEver prints each decision's ID once it is recorded.
func decideForEver(dir string) {
	l, err := Open(Config{Dir: dir, SegmentBytes: 64 << 10})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for range 8 {
		go func() {
			for {
				d := Decision{ID: NewDecisionID(l.cfg.Clock()), Time: l.cfg.Clock(), Reason: policy.Allowed, Subject: Subject{Task: "t_1"}}
				if err := l.Decision(context.Background(), d); err != nil {
					os.Exit(1)
				}
				_, _ = os.Stdout.WriteString(d.ID + "\n")
			}
		}()
	}
	select {}
}

func TestKillLosesNoDecisionThatReturned(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	told := make(map[string]bool)
	for round := range 3 {
		killAfter(t, dir, 500, told)
		l := open(t, Config{Dir: dir})
		if gaps := l.TakeGaps(); len(gaps) != 1 || gaps[0].Kind != GapCrash {
			t.Errorf("round %d: gaps to fill %+v", round, gaps)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		r := mustVerify(t, dir)
		if len(r.Gaps) < round+1 {
			t.Errorf("round %d: gaps %+v", round, r.Gaps)
		}
	}
	for _, line := range readAll(t, dir) {
		delete(told, parse(t, line).Unmapped.Decision)
	}
	if len(told) != 0 {
		t.Errorf("%d decisions returned and are not in the log", len(told))
	}
}

// killAfter runs the helper until it told n decisions, and kills it.
func killAfter(t *testing.T, dir string, n int, told map[string]bool) {
	t.Helper()
	cmd := helper(t.Context(), "decide", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for i := 0; lines.Scan(); i++ {
		if len(lines.Text()) == len("d_")+26 {
			told[lines.Text()] = true
		}
		if i == n {
			_ = cmd.Process.Kill()
		}
	}
	_ = cmd.Wait()
}

// fillQuota meets a real limit on the file's size, then has it lifted.
func fillQuota(dir string) int {
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return 2
	}
	small := old
	small.Cur = 16 << 10
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return 3
	}
	l, err := Open(Config{Dir: dir})
	if err != nil {
		return 4
	}
	one := func() error {
		return l.Decision(context.Background(), Decision{ID: NewDecisionID(l.cfg.Clock()), Reason: policy.Allowed})
	}
	allowed := 0
	for ; one() == nil; allowed++ {
	}
	l.Transition(context.Background(), ended(1))
	if err := one(); !errors.Is(err, ErrUnavailable) || l.Available() {
		return 5
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return 6
	}
	if err := one(); err != nil {
		return 7
	}
	if err := l.Close(); err != nil {
		return 8
	}
	fmt.Println(allowed)
	return 0
}

func TestARealLimitDeniesAndTheLogRecovers(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	out, err := helper(t.Context(), "quota", dir).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var allowed int64
	if _, err := fmt.Sscan(string(out), &allowed); err != nil || allowed == 0 {
		t.Fatalf("%v: %q", err, out)
	}
	r := mustVerify(t, dir)
	// Those before, the gap, the ending, and the one after.
	if r.Records != allowed+3 || len(r.Gaps) != 1 || r.Gaps[0].Denied < 2 {
		t.Errorf("report %+v after %d allowed", r, allowed)
	}
}

func TestATornLineIsSetAsideAndTold(t *testing.T) {
	t.Parallel()
	for name, tail := range map[string]string{
		"half a record":         `{"metadata":{"sequence":2,"vers`,
		"zeros":                 strings.Repeat("\x00", 512),
		"a line that is none":   "garbage\n",
		"a record out of chain": lineStart + "2" + lineMiddle + strings.Repeat("0", 64) + `","type":"decision"}}` + "\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := crashed(t, tail)
			l := open(t, Config{Dir: dir})
			decide(t, l, sample("t_1", policy.Allowed))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			r := mustVerify(t, dir)
			if r.Records != 4 || len(r.Gaps) != 2 || r.Gaps[0].Kind != GapTorn || r.Gaps[0].Bytes != int64(len(tail)) {
				t.Errorf("report %+v", r)
			}
			if b, err := os.ReadFile(dir + "/torn-0000000000000002"); err != nil || string(b) != tail {
				t.Errorf("set aside %q, %v", b, err)
			}
		})
	}
}

// crashed makes a log with one record and tail after it, as a crash may leave it.
func crashed(t *testing.T, tail string) (dir string) {
	t.Helper()
	dir = folderOf(t)
	l := open(t, Config{Dir: dir})
	decide(t, l, sample("t_1", policy.Allowed))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// The head as it is while the log is open.
	h := l.head.Load()
	opened := *h
	opened.Closed = false
	b, err := opened.sign(l.folder.key)
	if err == nil {
		err = writeFile(dir, headName, b)
	}
	if err != nil {
		t.Fatal(err)
	}
	segs, _ := segments(dir)
	f, err := os.OpenFile(segs[0].path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(tail); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

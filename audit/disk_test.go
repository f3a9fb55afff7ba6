package audit

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// disk is a file whose writes can be made to fail, to write half, or to hang.
type disk struct {
	file
	ctl *control
}

type control struct {
	mu     sync.Mutex
	err    error
	half   bool          // of a failed write half gets through
	gate   chan struct{} // writes wait for its end
	inside chan struct{} // told when a write waits
	syncs  int
}

func (c *control) fail(err error, half bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err, c.half = err, half
}

// hang makes writes wait until the function that it gives is called.
func (c *control) hang() (release func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	gate := make(chan struct{})
	c.gate, c.inside = gate, make(chan struct{}, 1)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.gate = nil
		close(gate)
	}
}

func (c *control) open(path string) (file, error) {
	f, err := openFile(path)
	return &disk{file: f, ctl: c}, err
}

func (d *disk) Write(b []byte) (int, error) {
	d.ctl.mu.Lock()
	err, half, gate, inside := d.ctl.err, d.ctl.half, d.ctl.gate, d.ctl.inside
	d.ctl.mu.Unlock()
	if gate != nil {
		select {
		case inside <- struct{}{}:
		default:
		}
		<-gate
	}
	if err == nil {
		return d.file.Write(b)
	}
	if half {
		n, _ := d.file.Write(b[:len(b)/2])
		return n, err
	}
	return 0, err
}

func (d *disk) Sync() error {
	d.ctl.mu.Lock()
	d.ctl.syncs++
	d.ctl.mu.Unlock()
	return d.file.Sync()
}

func ended(i int) Transition {
	return Transition{
		Time: time.Now(), Subject: Subject{Task: "t_1", Grant: policy.GrantID(fmt.Sprintf("g_%d", i))},
		From: policy.Active, To: policy.Ended, End: policy.EndCompleted,
	}
}

func TestAFullDiskDeniesCallsAndStopsNoEnding(t *testing.T) {
	t.Parallel()
	for name, half := range map[string]bool{"nothing gets through": false, "half a record gets through": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, ctl := folderOf(t), &control{}
			l := open(t, Config{Dir: dir, open: ctl.open})
			decide(t, l, sample("t_1", policy.Allowed))
			ctl.fail(syscall.ENOSPC, half)
			for range 3 {
				if err := l.Decision(context.Background(), sample("t_1", policy.Allowed)); !errors.Is(err, ErrUnavailable) {
					t.Fatalf("a decision on a full disk: %v", err)
				}
			}
			for i := range 600 { // more than one batch
				l.Transition(context.Background(), ended(i))
			}
			if l.Available() {
				t.Error("the log says that it is available")
			}
			ctl.fail(nil, false)
			flush(t, l)
			until(t, l.Available)
			decide(t, l, sample("t_1", policy.Allowed))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			wholeAfterOutage(t, dir)
		})
	}
}

// wholeAfterOutage expects the two decisions that were allowed, the gap, and
// every ending.
func wholeAfterOutage(t *testing.T, dir string) {
	t.Helper()
	r := mustVerify(t, dir)
	if r.Records != 603 || len(r.Gaps) != 1 {
		t.Fatalf("report %+v, want 603 records with one gap", r)
	}
	g := r.Gaps[0]
	if g.Kind != GapUnwritable || g.Denied != 3 || g.Lost != 0 || g.Kept == 0 || g.Since.IsZero() {
		t.Errorf("gap %+v", g)
	}
	if second := parse(t, readAll(t, dir)[1]); second.Unmapped.Type != typeGap {
		t.Errorf("after the outage comes %+v, not the gap", second.Unmapped)
	}
}

func TestWhatIsKeptIsBoundedAndTheLossIsTold(t *testing.T) {
	t.Parallel()
	dir, ctl := folderOf(t), &control{}
	l := open(t, Config{Dir: dir, open: ctl.open})
	ctl.fail(syscall.EIO, false)
	l.later.mu.Lock()
	l.later.limit = 64 << 10
	l.later.mu.Unlock()
	const sent = 1000
	for i := range sent {
		l.Transition(context.Background(), ended(i))
	}
	ctl.fail(nil, false)
	flush(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	lost := 0
	r := mustVerify(t, dir)
	for _, g := range r.Gaps {
		lost += g.Lost
	}
	if lost == 0 || int(r.Records)-len(r.Gaps)+lost != sent {
		t.Errorf("%d records and %d lost of %d", r.Records, lost, sent)
	}
	gaps := l.TakeGaps()
	if len(gaps) == 0 || gaps[0].Lost == 0 || l.TakeGaps() != nil {
		t.Errorf("gaps to fill: %+v", gaps)
	}
}

func TestAHungDiskDeniesWithinTheBound(t *testing.T) {
	t.Parallel()
	dir, ctl := folderOf(t), &control{}
	l := open(t, Config{Dir: dir, Wait: 50 * time.Millisecond, open: ctl.open})
	release := ctl.hang()
	late := sample("t_1", policy.Allowed)
	if err := l.Decision(context.Background(), late); !errors.Is(err, ErrUnavailable) {
		t.Fatalf("a decision on a hung disk: %v", err)
	}
	until(t, func() bool { return !l.Available() && l.hung() })
	for i := range 50 { // neither does any of these wait
		if err := l.Decision(context.Background(), sample("t_1", policy.Allowed)); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("a decision on a hung disk: %v", err)
		}
		l.Transition(context.Background(), ended(i))
	}
	release()
	flush(t, l)
	flush(t, l) // the outcome of the late one comes in a round of its own
	decide(t, l, sample("t_1", policy.Allowed))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	r := mustVerify(t, dir)
	if len(r.Gaps) != 1 || r.Gaps[0].Denied != 50 {
		t.Errorf("gaps %+v, want one with 50 denied", r.Gaps)
	}
	if got := recordsOf(t, dir, late.ID); len(got) != 2 || got[1] != typeOutcome {
		t.Errorf("the late decision's records are %v: it reads as if it had been allowed", got)
	}
}

// recordsOf lists the types of a decision's records.
func recordsOf(t *testing.T, dir, decision string) []recordType {
	t.Helper()
	var out []recordType
	for _, line := range readAll(t, dir) {
		if p := parse(t, line); p.Unmapped.Decision == decision {
			out = append(out, p.Unmapped.Type)
		}
	}
	return out
}

func TestADecisionEndsWithItsContext(t *testing.T) {
	t.Parallel()
	dir, ctl := folderOf(t), &control{}
	l := open(t, Config{Dir: dir, Wait: time.Hour, open: ctl.open})
	release := ctl.hang()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- l.Decision(ctx, sample("t_1", policy.Allowed)) }()
	<-ctl.inside
	cancel()
	if err := <-done; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if !l.Available() {
		t.Error("a caller that left made the log unavailable")
	}
	release()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir); len(r.Gaps) != 0 {
		t.Errorf("a caller that left made a gap: %+v", r.Gaps)
	}
}

func TestSyncPutsABatchOnDiskOnce(t *testing.T) {
	t.Parallel()
	ctl := &control{}
	l := open(t, Config{Dir: folderOf(t), Sync: true, HeadEvery: time.Hour, open: ctl.open})
	release := ctl.hang()
	var wg sync.WaitGroup
	call := func() { wg.Go(func() { decide(t, l, sample("t_1", policy.Allowed)) }) }
	call()
	<-ctl.inside // the first one is being written; the rest gather meanwhile
	for range 30 {
		call()
	}
	until(t, func() bool { return len(l.decisions) == 30 })
	release()
	wg.Wait()
	ctl.mu.Lock()
	defer ctl.mu.Unlock()
	if ctl.syncs > 3 { // one at the opening, one for each of the two batches
		t.Errorf("%d fsyncs for two batches", ctl.syncs)
	}
}

func TestAFailedFsyncIsAFailedDecision(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	bad := &badSync{}
	l := open(t, Config{Dir: dir, Sync: true, HeadEvery: time.Hour, open: bad.open})
	bad.set(true)
	if err := l.Decision(context.Background(), sample("t_1", policy.Allowed)); !errors.Is(err, ErrUnavailable) {
		t.Errorf("fsync failed, the decision says %v", err)
	}
	bad.set(false)
	decide(t, l, sample("t_1", policy.Allowed))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if r := mustVerify(t, dir); r.Records != 2 { // the gap and the second one
		t.Errorf("report %+v", r)
	}
}

type badSync struct {
	mu  sync.Mutex
	bad bool
}

func (b *badSync) set(v bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bad = v
}

func (b *badSync) open(path string) (file, error) {
	f, err := openFile(path)
	return &syncFile{f, b}, err
}

type syncFile struct {
	file
	b *badSync
}

func (f *syncFile) Sync() error {
	f.b.mu.Lock()
	defer f.b.mu.Unlock()
	if f.b.bad {
		return syscall.EIO
	}
	return f.file.Sync()
}

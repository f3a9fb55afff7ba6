package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/policy"
)

func open(t *testing.T, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// folderOf gives a path that Open makes.
func folderOf(t *testing.T) string { return filepath.Join(t.TempDir(), "audit") }

func sample(task string, reason policy.Reason) Decision {
	now := time.Now()
	return Decision{
		ID: NewDecisionID(now), Time: now, Reason: reason,
		Subject: Subject{
			Agent: "triage", Owner: []string{"support"}, Instance: "spiffe://example.org/sidecar/triage/1",
			Task: policy.TaskID(task), Grant: "g_1", Capability: "read-ticket", Destination: "tickets",
		},
		Call: Call{
			Method: "GET", Scheme: "https", Host: "tickets.example.org", Port: 443, Path: "/v1/tickets/OPS-42",
			Query: []policy.QueryParam{{Name: "page", Value: "hunter2"}},
		},
		Removed: []string{"authorization"}, Request: "r-1", Catalog: "c_1", Store: 7,
	}
}

// decide records a decision that must be recorded.
func decide(t *testing.T, l *Log, d Decision) {
	t.Helper()
	if err := l.Decision(context.Background(), d); err != nil {
		t.Fatal(err)
	}
}

func flush(t *testing.T, l *Log) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := l.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

// readAll gives the log's lines.
func readAll(t *testing.T, dir string) []string {
	t.Helper()
	segs, err := segments(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, s := range segs {
		b, err := os.ReadFile(s.path)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			out = append(out, strings.TrimSuffix(string(line), "\n"))
		}
	}
	return out
}

func parse(t *testing.T, line string) parsed {
	t.Helper()
	var p parsed
	if err := json.Unmarshal([]byte(line), &p); err != nil {
		t.Fatalf("%v: %s", err, line)
	}
	return p
}

func verify(dir string) (Report, error) {
	key, err := PublicKey(dir)
	if err != nil {
		return Report{}, err
	}
	return Verify(dir, key)
}

func mustVerify(t *testing.T, dir string) Report {
	t.Helper()
	r, err := verify(dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestADecisionIsInTheFileWhenItReturns(t *testing.T) {
	t.Parallel()
	for name, sync := range map[string]bool{"written": false, "on disk": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folderOf(t)
			l := open(t, Config{Dir: dir, Sync: sync})
			for range 20 {
				d := sample("t_1", policy.Allowed)
				decide(t, l, d)
				lines := readAll(t, dir)
				if got := parse(t, lines[len(lines)-1]).Unmapped.Decision; got != d.ID {
					t.Fatalf("last record is of %s, want %s", got, d.ID)
				}
			}
		})
	}
}

func TestRecordsAreOCSFAPIActivity(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	l := open(t, Config{Dir: dir})
	ctx, now := context.Background(), time.Now()
	d := sample("t_1", policy.CallNotGranted)
	decide(t, l, d)
	l.Transition(ctx, Transition{Time: now, Subject: d.Subject, From: policy.Active, To: policy.Ended, End: policy.EndExpired, By: "sweeper"})
	l.Credential(ctx, CredentialEvent{Time: now, Subject: d.Subject, Action: CredentialMinted, Outcome: "minted", Handle: "j-1"})
	l.Outcome(ctx, Outcome{Time: now, Decision: d.ID, Subject: d.Subject, Call: d.Call, Status: 403})
	l.Config(ctx, ConfigEvent{Time: now, Subject: d.Subject, Resource: "listeners", Error: "no"})
	flush(t, l)

	var types []recordType
	for _, line := range readAll(t, dir) {
		var r struct {
			Class    int `json:"class_uid"`
			Category int `json:"category_uid"`
			Activity int `json:"activity_id"`
			Type     int `json:"type_uid"`
			Time     int64
			Actor    struct{ User struct{ Name string } }
			API      struct{ Operation string }
			Source   struct{ UID string } `json:"src_endpoint"`
			Unmapped struct{ Type recordType }
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Class != 6003 || r.Category != 6 || r.Type != 600300+r.Activity || r.Time == 0 || r.API.Operation == "" || r.Actor.User.Name == "" {
			t.Errorf("not API Activity: %s", line)
		}
		if r.Source.UID != string(d.Instance) {
			t.Errorf("source endpoint is not the instance: %s", line)
		}
		types = append(types, r.Unmapped.Type)
	}
	want := []recordType{typeDecision, typeTransition, typeCredential, typeOutcome, typeConfig}
	if !slices.Equal(types, want) {
		t.Errorf("types %v, want %v", types, want)
	}
}

func TestValuesOfTheQueryAreNeverRecorded(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	l := open(t, Config{Dir: dir})
	decide(t, l, sample("t_1", policy.Allowed))
	line := readAll(t, dir)[0]
	if strings.Contains(line, "hunter2") {
		t.Error("a query value is in the record")
	}
	if !strings.Contains(line, `"query":["page"]`) {
		t.Errorf("no query names: %s", line)
	}
	got, _, _ := l.Denials(context.Background(), "t_1", 0, false)
	if len(got) != 0 {
		t.Errorf("an allowed call is listed as denied: %v", got)
	}
}

func TestConcurrentDecisionsShareWritesAndLoseNothing(t *testing.T) {
	t.Parallel()
	for name, sync := range map[string]bool{"written": false, "on disk": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folderOf(t)
			l := open(t, Config{Dir: dir, Sync: sync, SegmentBytes: 64 << 10})
			want := concurrently(t, l, 32, 40)
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			r := mustVerify(t, dir)
			if r.Records != int64(len(want)) || r.Segments < 2 || len(r.Gaps) != 0 {
				t.Errorf("report %+v, want %d records in several files", r, len(want))
			}
			for _, line := range readAll(t, dir) {
				delete(want, parse(t, line).Unmapped.Decision)
			}
			if len(want) != 0 {
				t.Errorf("%d decisions are not in the log", len(want))
			}
		})
	}
}

func concurrently(t *testing.T, l *Log, callers, each int) map[string]bool {
	t.Helper()
	var mu sync.Mutex
	var wg sync.WaitGroup
	ids := make(map[string]bool)
	for range callers {
		wg.Go(func() {
			for range each {
				d := sample("t_1", policy.Allowed)
				if err := l.Decision(context.Background(), d); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				ids[d.ID] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if got := l.Tally("t_1").Allowed; got != callers*each {
		t.Errorf("tally says %d allowed, want %d", got, callers*each)
	}
	return ids
}

func TestTheLogGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	for range 3 {
		l := open(t, Config{Dir: dir})
		decide(t, l, sample("t_1", policy.Allowed))
		decide(t, l, sample("t_1", policy.NoGrant))
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if r := mustVerify(t, dir); r.Records != 6 || len(r.Gaps) != 0 {
		t.Errorf("report %+v, want 6 records and no gap", r)
	}
	l := open(t, Config{Dir: dir})
	got := l.Tally("t_1")
	if got.Allowed != 3 || got.Denied[policy.NoGrant] != 3 {
		t.Errorf("tally after restart %+v", got)
	}
}

func TestTheHeadVouchesForTheStore(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	l := open(t, Config{Dir: dir})
	if l.Seen() != (Seen{}) || SeenIn(t.TempDir()) != (Seen{}) {
		t.Errorf("a new log has seen %+v", l.Seen())
	}
	seen := func(cluster uint64, epoch string, revision int64) {
		t.Helper()
		l.SetHistory(cluster, epoch)
		d := sample("t_1", policy.Allowed)
		d.Store = revision
		decide(t, l, d)
		decide(t, l, sample("t_1", policy.Allowed)) // at revision 7
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if got := SeenIn(dir); got != (Seen{cluster, epoch, revision}) {
			t.Errorf("seen %+v in the closed log, want revision %d of %s", got, revision, epoch)
		}
		l = open(t, Config{Dir: dir})
		if got := l.Seen(); got != (Seen{cluster, epoch, revision}) {
			t.Errorf("seen %+v, want revision %d of %s", got, revision, epoch)
		}
	}
	seen(1, "a", 90)
	seen(1, "a", 91)
	seen(1, "b", 12) // restored: another history, whose revisions are lower
}

func TestTheTallyCountsWhatATaskDid(t *testing.T) {
	t.Parallel()
	l := open(t, Config{Dir: folderOf(t)})
	ctx, s := context.Background(), Subject{Task: "t_1"}
	for _, c := range []CredentialEvent{
		{Subject: s, Action: CredentialMinted, Outcome: "minted"},
		{Subject: s, Action: CredentialRefreshed, Outcome: "minted"},
		{Subject: s, Action: CredentialMinted, Outcome: "injected"},
		{Subject: s, Action: CredentialMinted, Outcome: "failed"},
		{Subject: s, Action: CredentialRevoked, Outcome: "revoked"},
		{Subject: s, Action: CredentialRevoked, Outcome: "expires_only"},
		{Subject: s, Action: CredentialRevoked, Outcome: "unsupported"},
		{Subject: s, Action: CredentialRevoked, Outcome: "failed"},
	} {
		l.Credential(ctx, c)
	}
	l.Outcome(ctx, Outcome{Subject: s, Sent: 3, Received: 5})
	l.Outcome(ctx, Outcome{Subject: Subject{Task: "t_2"}, Sent: 100})
	flush(t, l)
	got := l.Tally("t_1")
	got.Denied = nil
	want := Tally{
		Minted: 2, Injected: 1, MintFailed: 1, Revoked: 1, ExpiresOnly: 1, Unsupported: 1, RevokeFailed: 1,
		Calls: 1, Sent: 3, Received: 5,
	}
	if got.Minted != want.Minted || got.Injected != 1 || got.MintFailed != 1 || got.Revoked != 1 ||
		got.ExpiresOnly != 1 || got.Unsupported != 1 || got.RevokeFailed != 1 || got.Calls != 1 || got.Sent != 3 || got.Received != 5 {
		t.Errorf("tally %+v, want %+v", got, want)
	}
}

func TestDenialsAreToldAsTheyHappen(t *testing.T) {
	t.Parallel()
	l := open(t, Config{Dir: folderOf(t)})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	told := make(chan []Denial)
	go func() {
		got, _, _ := l.Denials(ctx, "t_1", 0, true)
		told <- got
	}()
	d := sample("t_1", policy.CallNotGranted)
	d.Next = []policy.Next{{Action: "request_grant", Capability: "read-ticket", Params: map[string]string{"ticket": "OPS-42"}}}
	decide(t, l, sample("t_2", policy.NoGrant)) // another task's
	decide(t, l, d)
	got := <-told
	if len(got) != 1 || got[0].ID != d.ID || got[0].URL != "https://tickets.example.org/v1/tickets/OPS-42" ||
		got[0].Next[0].Capability != "read-ticket" || got[0].N != 1 {
		t.Errorf("told %+v", got)
	}
	ended, stop := context.WithCancel(ctx)
	stop()
	if got, next, err := l.Denials(ended, "t_1", 1, true); len(got) != 0 || next != 1 || err != nil {
		t.Errorf("after the last one: %v %d %v", got, next, err)
	}
}

func TestWhatIsRememberedIsBounded(t *testing.T) {
	t.Parallel()
	var all tallies
	all.init()
	for i := range maxTasks + 10 {
		task := policy.TaskID("t_" + string(rune('a'+i%26)) + strings.Repeat("x", i/26))
		all.add([]*entry{{kind: typeDecision, note: note{task: task, reason: policy.Allowed}}})
	}
	if len(all.tasks) != maxTasks || all.order.Len() != maxTasks {
		t.Errorf("%d tasks remembered, want %d", len(all.tasks), maxTasks)
	}
	for range maxDenials + 5 {
		all.add([]*entry{{kind: typeDecision, note: note{task: "t_1", denial: &Denial{}}}})
	}
	got, next, _ := all.since("t_1", 0)
	if len(got) != maxDenials || next != maxDenials+5 || got[0].N != 6 {
		t.Errorf("%d denials from number %d, next %d", len(got), got[0].N, next)
	}
}

func TestWiderFilesAreRefused(t *testing.T) {
	t.Parallel()
	for name, widen := range map[string]func(dir string) error{
		"the folder": func(dir string) error { return os.Chmod(dir, 0o750) },
		"the key":    func(dir string) error { return os.Chmod(filepath.Join(dir, keyName), 0o640) },
		"a record":   func(dir string) error { return os.Chmod(filepath.Join(dir, "0000000000000001.jsonl"), 0o644) },
		"a link":     func(dir string) error { return os.Symlink("/dev/null", filepath.Join(dir, "x")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := folderOf(t)
			l := open(t, Config{Dir: dir})
			decide(t, l, sample("t_1", policy.Allowed))
			if err := errors.Join(l.Close(), widen(dir)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrMode) {
				t.Errorf("opened with %v", err)
			}
		})
	}
}

func TestEveryFileIsPrivate(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	l := open(t, Config{Dir: dir})
	decide(t, l, sample("t_1", policy.Allowed))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := allPrivate(dir); err != nil {
		t.Error(err)
	}
}

func TestASecondProcessIsToldSo(t *testing.T) {
	t.Parallel()
	dir := folderOf(t)
	open(t, Config{Dir: dir})
	if _, err := Open(Config{Dir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("opened twice: %v", err)
	}
}

func TestAClosedLogDenies(t *testing.T) {
	t.Parallel()
	l := open(t, Config{Dir: folderOf(t)})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := l.Decision(context.Background(), sample("t_1", policy.Allowed)); !errors.Is(err, ErrClosed) {
		t.Errorf("decision on a closed log: %v", err)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	r := prometheus.NewRegistry()
	l := open(t, Config{Dir: folderOf(t), Registry: r})
	decide(t, l, sample("t_1", policy.Allowed))
	decide(t, l, sample("t_1", policy.NoGrant))
	want := map[string]float64{
		"exeat_audit_records_total/decision": 2, "exeat_audit_records_total/gap": 0,
		"exeat_audit_write_failures_total": 0, "exeat_audit_available": 1,
	}
	got := gather(t, r)
	for name, n := range want {
		if v, ok := got[name]; !ok || v != n {
			t.Errorf("%s is %v (%v), want %v", name, v, ok, n)
		}
	}
}

// gather reads all metrics, by name and label value.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

func BenchmarkDecision(b *testing.B) {
	l, err := Open(Config{Dir: filepath.Join(b.TempDir(), "audit")})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	d := sample("t_1", policy.Allowed)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := l.Decision(context.Background(), d); err != nil {
				b.Error(err)
			}
		}
	})
}

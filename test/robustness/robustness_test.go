package robustness

import (
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/test/stack"
)

// The variables of a longer run, and of one that is to be repeated.
const (
	timeEnv = "EXEAT_ROBUSTNESS_TIME"
	seedEnv = "EXEAT_ROBUSTNESS_SEED"
)

// shortRun is how long the system is disturbed when nobody asks for more.
const shortRun = 8 * time.Second

// slack is how late a busy machine may see what Envoy has sent already.
const slack = time.Second

// Whatever is killed, stopped, parted, slowed or compacted: nothing arrives at
// the upstream that promises 1, 2, 3 and 8 rule out, and all works again after.
func TestPromisesHoldUnderFaults(t *testing.T) {
	t.Parallel()
	total, longest, roles := shortRun, 1200, []string{"api,xds", "xds,authz", "api,authz"}
	if text := os.Getenv(timeEnv); text != "" {
		var err error
		if total, err = time.ParseDuration(text); err != nil {
			t.Fatalf("%s: %v", timeEnv, err)
		}
		longest, roles = 4000, []string{"api", "api", "xds", "xds", "authz", "authz", "authz"}
	}
	seed := seedOf(t)
	c := stack.StartCluster(t, stack.ClusterOptions{Members: 3, Roles: roles, Staleness: staleness})
	sidecars := []*stack.ClusterSidecar{c.Sidecar(t, "triage", "one"), c.Sidecar(t, "triage", "two")}
	w := newWorkload(t, c, seed)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	for _, s := range sidecars {
		w.start(t, ctx, s, 3)
	}
	f := &faults{cluster: c, sidecars: sidecars, r: rand.New(rand.NewPCG(seed, 0)), longest: longest}
	done := f.run(t, total)
	for _, e := range c.Exeatds {
		e.AwaitReady(t)
	}
	stop()
	w.workers.Wait()
	seen := c.Mirror.Seen() // what comes after is nobody's history
	for _, s := range sidecars {
		wantRecovered(t, s)
	}
	report(t, w, seen, seed, done)
}

// seedOf is the one that was asked for, or a new one. It is told in any case.
func seedOf(t *testing.T) uint64 {
	seed := rand.Uint64()
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("%s: %v", seedEnv, err)
		}
	}
	t.Logf("seed %d; repeat with %s=%d", seed, seedEnv, seed)
	return seed
}

// wantRecovered: a new task's call comes through. The first may still find a
// connection that is only now seen to be dead.
func wantRecovered(t *testing.T, s *stack.ClusterSidecar) {
	t.Helper()
	stack.Await(t, "a grant's call to come through", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), askTime)
		defer cancel()
		return works(ctx, t, s)
	})
}

// report checks the history and tells what was seen.
func report(t *testing.T, w *workload, seen []stack.Arrival, seed uint64, done []string) {
	t.Helper()
	verdict := w.history.check(seen, limits{Staleness: staleness, Check: time.Second, Slack: slack})
	enforced := 0
	for _, e := range w.history.ends {
		if e.Enforced {
			enforced++
		}
	}
	t.Logf("%d faults, %d requests for grants, %d endings (%d enforced), %d arrivals; the latest %v after an enforced end",
		len(done), len(w.history.grants), len(w.history.ends), enforced, verdict.Arrivals, verdict.Latest)
	var answers []string
	for reason, n := range w.history.calls {
		answers = append(answers, strconv.Itoa(n)+" "+reason)
	}
	slices.Sort(answers)
	t.Logf("calls: %s", strings.Join(answers, "; "))
	if len(verdict.Violations) > 0 {
		t.Errorf("seed %d: %d violations; the first:\n%s\nfaults:\n%s", seed, len(verdict.Violations),
			strings.Join(verdict.Violations[:min(10, len(verdict.Violations))], "\n"), strings.Join(done, "\n"))
	}
	if verdict.Arrivals < 20 {
		t.Errorf("only %d calls came through: nothing was tested\nfaults:\n%s", verdict.Arrivals, strings.Join(done, "\n"))
	}
}

package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

// glance is an agent whose grants live for seconds.
const glance = `apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: glance}
spec:
  params: {ticket: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: tickets
  calls: [{method: GET, path: "/v1/tickets/${ticket}"}]
  credential: {provider: tickets-jwt, scope: {scope: "ticket:read", ticket: "${ticket}"}}
  limits: {ttl: 4s}
---
apiVersion: exeat.dev/v1alpha1
kind: Agent
metadata: {name: glancer}
spec:
  spiffeID: spiffe://example.org/agent/glancer
  sidecarID: spiffe://example.org/sidecar/glancer/{instance}
  owner: {groups: [support-platform], contact: support-platform@example.org}
  capabilities: [{name: glance}]
`

// printed is what a command printed, and its exit code.
type printed struct {
	out, err string
	code     int
}

func exeat(t testing.TB, st *stack.Stack, args ...string) printed {
	t.Helper()
	cmd := st.Exeat(stack.Context(t), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return printed{out.String(), errs.String(), cmd.ProcessState.ExitCode()}
}

func (s printed) want(t testing.TB, code int, patterns ...string) {
	t.Helper()
	if s.code != code {
		t.Errorf("exit code %d, want %d:\n%s%s", s.code, code, s.out, s.err)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(s.out + s.err) {
			t.Errorf("no %q in:\n%s%s", p, s.out, s.err)
		}
	}
}

// heldRun runs a command under exeat run that does nothing until its input ends.
func heldRun(t testing.TB, st *stack.Stack, flags ...string) (cmd *exec.Cmd, release func(), stderr *stack.Log) {
	t.Helper()
	stderr = &stack.Log{}
	cmd = st.Exeat(stack.Context(t), append(append([]string{"run"}, flags...), "--", os.Args[0])...)
	cmd.Env = append(cmd.Env, envRole+"=hold")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close() })
	if _, err := io.ReadFull(out, make([]byte, 1)); err != nil { // it says its process ID
		t.Fatalf("the command does not run: %v\n%s", err, stderr)
	}
	return cmd, func() { in.Close() }, stderr
}

// active lists an agent's active grants.
func active(t testing.TB, op *client.Client, agent string) []client.Grant {
	t.Helper()
	list, _, err := op.Grants(stack.Context(t), client.GrantFilter{Agent: agent})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestAKilledRunLeavesNothingActive: nobody is there to end the task, and it ends.
func TestAKilledRunLeavesNothingActive(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	cmd, release, _ := heldRun(t, st, "--agent", "triage", "--heartbeat", "5s", "--grant", "watch-ticket:ticket=OPS-1")
	time.Sleep(11 * time.Second) // time itself: longer than it would live without heartbeats
	list := active(t, op, "triage")
	if len(list) != 1 {
		t.Fatalf("while it runs: %+v", list)
	}
	if err := cmd.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	killed := time.Now()
	release() // its command, which nobody ends, ends with its input
	_ = cmd.Wait()
	stack.Await(t, "the end of the task", func() bool {
		task, err := op.Task(stack.Context(t), list[0].Task)
		return err == nil && task.State == "ended" && task.EndReason == "failed" && task.Grants[0].EndReason == "failed"
	})
	if after := time.Since(killed); after > 12*time.Second {
		t.Errorf("it ended %v after the kill, want two intervals of 5s", after)
	}
	if list := active(t, op, "triage"); len(list) != 0 {
		t.Errorf("active yet: %+v", list)
	}
}

// TestARunRenewsItsGrants: grants of four seconds serve a command of ten, and
// the receipt lists each.
func TestARunRenewsItsGrants(t *testing.T) {
	t.Parallel()
	st := stack.StartWith(t, map[string]string{"glance.yaml": glance})
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	cmd, release, stderr := heldRun(t, st, "--agent", "glancer", "--renew", "--grant", "glance:ticket=OPS-1")
	for over := time.Now().Add(10 * time.Second); time.Now().Before(over); time.Sleep(200 * time.Millisecond) {
		if len(active(t, op, "glancer")) == 0 {
			t.Fatalf("without a grant for a moment\n%s", stderr)
		}
	}
	release()
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	if n := strings.Count(stderr.String(), "glance (renewal)"); n < 3 {
		t.Errorf("the receipt lists %d renewals:\n%s", n, stderr)
	}
}

// TestRevokeShowsBothMoments, and its exit code says how far it came.
func TestRevokeShowsBothMoments(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc := st.Sidecar(t, "triage")
	k := sc.Task(t)
	const accepted, enforced = `(?m)^accepted  \d\d:\d\d:\d\d\.\d{3}  `, `(?m)^enforced  \d\d:\d\d:\d\d\.\d{3}  after \d+ ms$`
	k.ReadTicket(t, "OPS-1")
	exeat(t, st, "grants", "--agent", "triage").want(t, 0, `g_\w+ +triage +read-ticket +project=OPS ticket=OPS-1 +active`)
	exeat(t, st, "revoke", "agent", "triage").want(t, 0, accepted+`agent triage: 1 active grant on 1 sidecar$`, enforced)
	k.ReadTicket(t, "OPS-1")
	exeat(t, st, "revoke", "owner", "support-platform").want(t, 0, accepted+`owner support-platform: 1 active grant`, enforced)
	g := k.ReadTicket(t, "OPS-1")
	exeat(t, st, "revoke", g.ID).want(t, 0, accepted+"grant "+g.ID, enforced)
	k.ReadTicket(t, "OPS-1")
	exeat(t, st, "revoke", "--all").want(t, 0, accepted+`everything: 1 active grant on 1 sidecar$`, enforced)
	exeat(t, st, "revoke", "agent", "triagee").want(t, 1, `check how it is spelt`)
	exeat(t, st, "revoke", "everything", "now").want(t, 1, `want grant, task, agent, owner or capability`)
	exeat(t, st, "revoke").want(t, 1, `--all`)

	k.ReadTicket(t, "OPS-1")
	var r client.Revocation
	s := exeat(t, st, "revoke", "capability", "read-ticket", "-o", "json")
	if err := json.Unmarshal([]byte(s.out), &r); err != nil || !r.Ending.Enforced || r.Grants != 1 || r.Scope != client.ScopeCapability || r.Ending.EnforcedAt.Before(r.Ending.AcceptedAt) {
		t.Errorf("%v in %s", err, s.out)
	}
	exeat(t, st, "pause", k.ID).want(t, 0, accepted+"task "+k.ID+" is paused", enforced)
	exeat(t, st, "tasks").want(t, 0, k.ID+` +triage +test +paused by local/uid/`)
	exeat(t, st, "resume", k.ID).want(t, 0, "is active until")
	exeat(t, st, "agents", "suspend", "triage", "--reason", "a drill").want(t, 0, accepted, enforced)
	exeat(t, st, "agents").want(t, 0, `triage +suspended .*local/uid/\d+ at .*: a drill`, `librarian +active`)
	exeat(t, st, "run", "--agent", "triage", "--", "true").want(t, 125, "Suspended by local/uid/", "exeat agents resume triage")
	exeat(t, st, "agents", "resume", "triage").want(t, 0, "may start tasks again")
	exeat(t, st, "tasks", "--all").want(t, 0, k.ID+`.*agent_suspended`)
	exeat(t, st, "run", "--agent", "triage", "--", "true").want(t, 0)
}

// TestARevocationThatIsNotConfirmedSaysWhenItHolds: the sidecar stands still, and
// so cannot close its streams.
func TestARevocationThatIsNotConfirmedSaysWhenItHolds(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc := st.Sidecar(t, "triage")
	k := sc.Task(t)
	g := k.ReadTicket(t, "OPS-1")
	for _, pid := range stack.Children(t, sc.PID) {
		stack.Freeze(t, pid)
	}
	exeat(t, st, "revoke", "--all", "--wait", "1s").want(t, 3, `accepted`,
		`not confirmed as enforced: waits for sidecar\w*; the last stream ends by itself at `+g.Until.Local().Format("15:04:05"))
}

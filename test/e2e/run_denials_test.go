package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/test/stack"
)

// askFor is the command that a denial shows.
var askFor = regexp.MustCompile(`ask for it: (.*)\n`)

// runShowsDenialsLive: a person at a shell under exeat run is
// denied, does what the denial says, and comes through.
func runShowsDenialsLive(t *testing.T, st *stack.Stack) {
	t.Parallel()
	op := operator(t, st)
	r := start(t, st, nil, "--agent", "triage", "--task", "support", "--purpose", "see what OPS-1 is about", "--", "sh")
	enter := func(command string) {
		t.Helper()
		if _, err := fmt.Fprintln(r.in, command); err != nil {
			t.Fatal(err)
		}
	}
	get := "curl -sS -o /dev/null -w '%{http_code}\\n' " + stack.Tickets + "OPS-1"
	enter(`echo "$EXEAT_TASK"`)
	enter(get + "; " + get)
	r.awaitErr(t, "ask for it: ")
	r.awaitOut(t, "403\n403\n")
	enter(askFor.FindStringSubmatch(r.err.String())[1])
	enter(get)
	r.awaitOut(t, "\n200\n")
	enter("curl -sS -o /dev/null https://elsewhere.example.org/some/path")
	r.awaitErr(t, "exeat: denied GET https://elsewhere.example.org/some/path: unknown_destination (decision d_")
	if code := r.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if got := strings.Count(r.err.String(), "exeat: denied "); got != 2 {
		t.Errorf("two distinct denials are shown %d times", got)
	}
	got := r.receipt()
	for _, want := range []string{" completed, enforced in ", "read-ticket ", "project=OPS ticket=OPS-1", "1 allowed, 3 denied (no_grant 2, unknown_destination 1)", "1 minted, 1 end by expiry"} {
		if !strings.Contains(got, want) {
			t.Errorf("the receipt lacks %q: %s", want, got)
		}
	}
	id, _, _ := strings.Cut(got, " ")
	wantTask(t, op, id, "completed")
	task, err := op.Task(stack.Context(t), id)
	if err != nil || task.Type != "support" || task.Claimed.Purpose != "see what OPS-1 is about" {
		t.Errorf("the task is %+v %v", task, err)
	}
}

// runQuiet: no receipt; denials are told all the same.
func runQuiet(t *testing.T, st *stack.Stack) {
	t.Parallel()
	r, code := run(t, st, nil, "--agent", "triage", "--quiet", "--grant", "read-ticket:project=OPS,ticket=OPS-1", "--",
		"curl", "-sS", "--fail-early", stack.Tickets+"OPS-1", stack.Tickets+"OPS-2")
	if code != 0 || strings.Contains(r.err.String(), "exeat: task") || strings.Contains(r.err.String(), "credentials") {
		t.Errorf("exit code %d, or there is a receipt", code)
	}
	if !strings.Contains(r.err.String(), "exeat: denied GET "+stack.Tickets+"OPS-2: call_not_granted") {
		t.Error("the denial is not told")
	}
}

package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/examples/tickets/service"
	"github.com/exeat-dev/exeat/test/stack"
)

// fetcher is a program that prints what it gets from the URL that is its last
// argument. It knows of Exeat by its environment alone.
type fetcher struct {
	name string
	args []string
	vars []string
}

func fetchers(t testing.TB) []fetcher {
	t.Helper()
	if err := havePython(); err != nil {
		t.Fatalf("Python's requests cannot be used: run 'make tools': %v", err)
	}
	self, role := program(t, "get")
	return []fetcher{
		{"curl", []string{"curl", "-sS"}, nil},
		{"requests", []string{"python3", "-c", "import requests, sys; print(requests.get(sys.argv[1]).text)"}, nil},
		{"urllib", []string{"python3", "-c", pythonOwn}, nil},
		{"Go", []string{self}, role},
	}
}

// pythonOwn is a program with Python's own library.
const pythonOwn = `
import sys, urllib.error, urllib.request
try:
    print(urllib.request.urlopen(sys.argv[1]).read().decode())
except urllib.error.HTTPError as e:
    print(e.read().decode())
`

// runOrdinaryPrograms: they hold no key, know of no proxy, and come
// through with what was granted and with nothing else.
func runOrdinaryPrograms(t *testing.T, st *stack.Stack) {
	t.Parallel()
	for i, f := range fetchers(t) {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			granted, other := "OPS-"+string(rune('1'+i))+"0", "OPS-"+string(rune('1'+i))+"1"
			script := `"$@" ` + stack.Tickets + granted + ` && "$@" ` + stack.Tickets + other + `; "$@" ` + stack.Tickets + other
			args := append([]string{"--agent", "triage", "--grant", "read-ticket:project=OPS,ticket=" + granted, "--", "sh", "-c", script, "sh"}, f.args...)
			r, code := run(t, st, f.vars, args...)
			if code != 0 {
				t.Errorf("exit code %d", code)
			}
			if out := r.out.String(); !strings.Contains(out, `"subject":"`+triage+`"`) || strings.Count(out, `"reason":"call_not_granted"`) != 2 {
				t.Errorf("the program did not get what it should")
			}
			if got := strings.Count(r.err.String(), "exeat: denied GET "+stack.Tickets+other+": call_not_granted (decision d_"); got != 1 {
				t.Errorf("the denial is shown %d times", got)
			}
			if !strings.Contains(r.err.String(), "ask for it: exeat request read-ticket:project=OPS,ticket="+other+"\n") {
				t.Error("what would ask for the call is not shown")
			}
			if got := r.receipt(); !strings.Contains(got, "1 allowed, 2 denied (call_not_granted 2)") {
				t.Errorf("the receipt says %s", got)
			}
			if slices.ContainsFunc(st.Tickets.Accesses(), func(a service.Access) bool { return strings.HasSuffix(a.Path, other) }) {
				t.Error("a call that was not granted reached the upstream")
			}
		})
	}
	t.Run("git", func(t *testing.T) { gitUnderRun(t, st) })
}

// gitUnderRun: git verifies the sidecar's certificate, answers its challenge,
// and is told no.
func gitUnderRun(t *testing.T, st *stack.Stack) {
	t.Parallel()
	r, code := run(t, st, nil, "--agent", "triage", "--", "git", "ls-remote", stack.Tickets+"OPS-90")
	if code != 128 || !strings.Contains(r.err.String(), "error: 403") {
		t.Errorf("exit code %d, want git's own when it is forbidden", code)
	}
	if !strings.Contains(r.err.String(), "exeat: denied GET "+stack.Tickets+"OPS-90/info/refs: ") {
		t.Error("the denial is not shown")
	}
}

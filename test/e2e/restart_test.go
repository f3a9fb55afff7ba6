package e2e

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/examples/tickets/service"
	"github.com/exeat-dev/exeat/test/stack"
)

// keys are what must be the same after every start on one data folder.
type keys struct {
	issuer       []string // key IDs that tokens are verified by
	authority    string   // PEM
	interception string   // PEM, the sidecar's
}

func keysOf(t testing.TB, st *stack.Stack, sc *stack.Sidecar) keys {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	k := keys{authority: read(st.Endpoints.CAFile), interception: read(sc.CAFile)}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(k.authority))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	r := stack.Get(t, &http.Client{Transport: transport}, st.Endpoints.Issuer+"/jwks")
	stack.WantOK(t, r)
	var set struct{ Keys []struct{ KID string } }
	if err := json.Unmarshal(r.Body, &set); err != nil || len(set.Keys) == 0 {
		t.Fatalf("%s: %v", r.Body, err)
	}
	for _, key := range set.Keys {
		k.issuer = append(k.issuer, key.KID)
	}
	slices.Sort(k.issuer)
	return k
}

// restart kills exeatd, has its absence seen, and starts it again.
func restart(t testing.TB, st *stack.Stack, meanwhile func()) {
	t.Helper()
	if err := st.KillExeatd(); err != nil {
		t.Fatal(err)
	}
	meanwhile()
	if err := st.StartExeatd(stack.Context(t)); err != nil {
		t.Fatal(err)
	}
}

// verified lists the tokens that the upstream took for a grant, each once.
func verified(st *stack.Stack, g client.Grant) []string {
	var out []string
	for _, a := range st.Tickets.Accesses() {
		if a.Grant == g.ID && a.Status == 200 && !slices.Contains(out, a.JTI) {
			out = append(out, a.JTI)
		}
	}
	return out
}

// stateOf is what the record says of a grant.
func stateOf(t testing.TB, op *client.Client, g client.Grant) string {
	t.Helper()
	task, err := op.Task(stack.Context(t), g.Task)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range task.Grants {
		if x.ID == g.ID {
			return strings.TrimSpace(x.State + " " + x.EndReason)
		}
	}
	return "gone"
}

// TestAKillLosesNoGrantAndRevivesNone: exeatd is killed again and again, each
// time right after something ended.
func TestAKillLosesNoGrantAndRevivesNone(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc, op := st.Sidecar(t, "triage"), operator(t, st)
	before := keysOf(t, st, sc)
	k := sc.Task(t)
	c := k.HTTP(t)
	get := func(ticket string) stack.Reply { return stack.Get(t, c, stack.Tickets+ticket) }
	began, kept := time.Now(), k.ReadTicket(t, "OPS-1")
	stack.WantOK(t, get("OPS-1"))
	ended := map[string]client.Grant{}
	for i := range 3 {
		a, b := fmt.Sprintf("OPS-2%d", i), fmt.Sprintf("OPS-3%d", i)
		ended[a], ended[b] = k.ReadTicket(t, a), k.ReadTicket(t, b)
		stack.WantOK(t, get(a))
		stack.WantOK(t, get(b))
		other := sc.Task(t)
		of := other.ReadTicket(t, "OPS-4")
		other.Complete(t)
		if _, err := op.RevokeGrant(stack.Context(t), ended[a].ID); err != nil {
			t.Fatal(err)
		}
		if _, err := k.API.EndGrant(stack.Context(t), ended[b].ID); err != nil {
			t.Fatal(err)
		}
		restart(t, st, func() {
			if r := get("OPS-1"); r.Err != nil || r.Status != http.StatusServiceUnavailable || r.Denial().Reason == "" {
				t.Errorf("while exeatd is dead, got %d %s %v, want a denial with 503", r.Status, r.Body, r.Err)
			}
		})
		// Envoy finds exeatd again in its own time; until then all is denied.
		stack.Await(t, "calls under the grant that was kept", func() bool { return get("OPS-1").Status == 200 })
		for ticket, g := range ended {
			stack.WantDenied(t, get(ticket), "grant_ended")
			if got := stateOf(t, op, g); got != "ended revoked" && got != "ended completed" {
				t.Errorf("the grant of %s is %s after a restart", ticket, got)
			}
		}
		if r := stack.Get(t, other.HTTP(t), stack.Tickets+"OPS-4"); r.Status == 200 || stateOf(t, op, of) != "ended completed" {
			t.Errorf("a task that was over is back: %d, grant %s", r.Status, stateOf(t, op, of))
		}
		fresh := fmt.Sprintf("OPS-5%d", i)
		k.ReadTicket(t, fresh)
		stack.WantOK(t, get(fresh))
	}
	// Its token lasts a minute, and is then followed by another.
	again := time.Since(began) > 30*time.Second
	if got := stateOf(t, op, kept); got != "active" || !again && len(verified(st, kept)) != 1 {
		t.Errorf("the grant that was kept is %s, with the tokens %v", got, verified(st, kept))
	}
	if after := keysOf(t, st, sc); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("the keys were %+v and are %+v", before, after)
	}
	if next := keysOf(t, st, st.Sidecar(t, "triage")); next.authority != before.authority {
		t.Error("a new sidecar is told of another authority")
	}
}

// TestStreamsWhileExeatdIsDead: a grant's end is its end, and what may go on
// goes on until it is ended by the exeatd that comes after.
func TestStreamsWhileExeatdIsDead(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc, op := st.Sidecar(t, "triage"), operator(t, st)
	a := newGoClient(false)
	short, g := watch(t, a, sc.Task(t), 4*time.Second, "OPS-1")
	long, kept := watch(t, a, sc.Task(t), 5*time.Minute, "OPS-2")
	restart(t, st, func() {
		last := short.awaitEnd(t)
		if over := time.Since(g.Until); over < -50*time.Millisecond || last.After(g.Until.Add(cutTime)) {
			t.Errorf("the stream ended %v after its grant, its last event came %v after", over, last.Sub(g.Until))
		}
		long.awaitEvents(t, 2)
	})
	stack.Await(t, "the expiry on record", func() bool { return stateOf(t, op, g) == "ended expired" })
	stack.Await(t, "the sidecar's return", func() bool {
		list, err := op.Sidecars(stack.Context(t))
		return err == nil && slices.ContainsFunc(list, func(x client.Sidecar) bool { return x.Instance == sc.Instance })
	})
	long.awaitEvents(t, 2)
	if e := ended(t)(op.RevokeGrant(stack.Context(t), kept.ID)); !e.Enforced {
		t.Errorf("the ending is not enforced: %+v", e)
	}
	long.awaitEnd(t)
	awaitClosed(t, st, kept)
}

// TestASecondExeatdOnTheSameFolder says so and stops, and the first goes on.
func TestASecondExeatdOnTheSameFolder(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc := st.Sidecar(t, "triage")
	endpoints := filepath.Join(st.Data, "endpoints.json")
	before, err := os.ReadFile(endpoints)
	if err != nil {
		t.Fatal(err)
	}
	second := exec.CommandContext(stack.Context(t), filepath.Join(st.Bin, "exeatd"), "dev", "--catalog", st.Catalog, "--data", st.Data,
		"--api", "127.0.0.1:0", "--grpc", "127.0.0.1:0", "--metrics", "127.0.0.1:0")
	out, err := second.CombinedOutput()
	if err == nil || second.ProcessState.ExitCode() != 1 {
		t.Errorf("the second one ended with %v, want exit code 1", err)
	}
	if said := string(out); !strings.Contains(said, st.Data) || !strings.Contains(said, "stop it, or use another folder with --data") {
		t.Errorf("it says %s", said)
	}
	if after, err := os.ReadFile(endpoints); err != nil || string(after) != string(before) {
		t.Errorf("the first one's endpoints were %s and are %s %v", before, after, err)
	}
	k := sc.Task(t)
	k.ReadTicket(t, "OPS-1")
	stack.WantOK(t, stack.Get(t, k.HTTP(t), stack.Tickets+"OPS-1"))
	if _, err := operator(t, st).Tasks(stack.Context(t)); err != nil {
		t.Errorf("the first one's socket: %v", err)
	}
}

// TestSIGTERMDrains: what exeatd has taken on it answers, and then it ends well.
func TestSIGTERMDrains(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc, op := st.Sidecar(t, "triage"), operator(t, st)
	k := sc.Task(t)
	k.ReadTicket(t, "OPS-1")
	stack.WantOK(t, stack.Get(t, k.HTTP(t), stack.Tickets+"OPS-1"))
	var asking sync.WaitGroup
	polled := make(chan error, 1)
	asking.Go(func() {
		_, _, err := op.Denials(stack.Context(t), k.ID, 0, 30*time.Second) // held until there is one
		polled <- err
	})
	answers := make(chan struct{}, 100)
	for range 4 {
		asking.Go(func() { askUntilGone(t, st, answers) })
	}
	stack.Await(t, "many answers", func() bool { return len(answers) == cap(answers) })
	began := time.Now()
	if err := st.StopExeatd(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("draining took %v", took)
	}
	asking.Wait()
	if err := <-polled; err != nil {
		t.Errorf("what was asked before the drain got %v", err)
	}
	if !strings.Contains(st.Log.String(), `"msg":"drained"`) {
		t.Error("exeatd does not say that it drained")
	}
	if err := st.StartExeatd(stack.Context(t)); err != nil {
		t.Fatal(err)
	}
	stack.Await(t, "calls under the grant", func() bool { return stack.Get(t, k.HTTP(t), stack.Tickets+"OPS-1").Status == 200 })
	if len(accessesOf(st, k.ID)) < 2 {
		t.Error("the call after the restart did not arrive as the task's")
	}
}

// askUntilGone asks exeatd one thing after another. Each is answered whole, or
// nobody is there. It notes answers as long as there is room.
func askUntilGone(t testing.TB, st *stack.Stack, answers chan<- struct{}) {
	op, err := st.Operator()
	if err != nil {
		t.Error(err)
		return
	}
	defer op.Close()
	ctx := stack.Context(t)
	for {
		_, err := op.Tasks(ctx)
		if err == nil {
			select {
			case answers <- struct{}{}:
			default:
			}
			continue
		}
		if text := err.Error(); !strings.Contains(text, "connection refused") && !strings.Contains(text, "no such file") {
			t.Errorf("while draining: %v", err)
		}
		return
	}
}

func accessesOf(st *stack.Stack, task string) []service.Access {
	return slices.DeleteFunc(st.Tickets.Accesses(), func(a service.Access) bool { return a.Task != task })
}

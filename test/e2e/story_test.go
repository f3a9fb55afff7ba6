package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/examples/tickets/service"
	"github.com/exeat-dev/exeat/test/stack"
)

const triage = "spiffe://example.org/agent/triage"

// scene is what one client's story plays in: a task of its own on a sidecar
// that all share, and tickets that nobody else asks for.
type scene struct {
	*stack.Stack
	sidecar *stack.Sidecar
	agent   agent
	prefix  string // of the tickets' numbers
}

// ticket is the name of one of the scene's tickets.
func (s scene) ticket(n int) string { return fmt.Sprintf("OPS-%s%03d", s.prefix, n) }

func (s scene) get(t testing.TB, k *stack.Task, ticket string) stack.Reply {
	t.Helper()
	return s.agent.get(t, k, stack.Tickets+ticket, nil)
}

// TestTheStory is the demo's story, told by each client.
func TestTheStory(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc := st.Sidecar(t, "triage")
	for i, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			s := scene{st, sc, k.start(t), fmt.Sprint(i + 1)}
			task := sc.Task(t)
			g := s.askedAndCalled(t, task)
			if r := s.get(t, task, s.ticket(1)); k.proto != "" && r.Proto != k.proto {
				t.Errorf("the agent spoke %s, want %s", r.Proto, k.proto)
			}
			s.anotherTicket(t, task)
			s.forgeries(t, task)
			s.everyGrantWorksAtOnce(t, task)
			s.expiry(t, task)
			s.afterTheTask(t, task, g)
		})
	}
}

// askedAndCalled: denied without a grant, and let out with it.
func (s scene) askedAndCalled(t *testing.T, k *stack.Task) client.Grant {
	d := stack.WantDenied(t, s.get(t, k, s.ticket(1)), "no_grant")
	want := []client.Next{{Action: "request_grant", Capability: "read-ticket", Params: map[string]string{"project": "OPS", "ticket": s.ticket(1)}}}
	if d.Status != 403 || d.Retry != "request_grant" || !strings.HasPrefix(d.Decision, "d_") || fmt.Sprint(d.Next) != fmt.Sprint(want) {
		t.Errorf("the denial says %+v, want next %+v", d, want)
	}
	if d.Call.Method != "GET" || d.Call.URL != stack.Tickets+s.ticket(1) {
		t.Errorf("the denial is of %+v", d.Call)
	}
	// What the denial says is what is asked for.
	g := k.ReadTicket(t, d.Next[0].Params["ticket"])
	s.seen(t, s.get(t, k, s.ticket(1)), k, g)
	return g
}

// seen checks whom the upstream verified: what it told the agent, and what it
// kept itself.
func (s scene) seen(t *testing.T, r stack.Reply, k *stack.Task, g client.Grant) {
	t.Helper()
	stack.WantOK(t, r)
	var answer struct {
		Seen struct{ Subject, Grant, Task string }
	}
	if err := json.Unmarshal(r.Body, &answer); err != nil {
		t.Fatalf("%s: %v", r.Body, err)
	}
	if answer.Seen.Subject != triage || answer.Seen.Grant != g.ID || answer.Seen.Task != k.ID {
		t.Errorf("the upstream saw %+v, want grant %s of task %s", answer.Seen, g.ID, k.ID)
	}
	if !slices.ContainsFunc(s.Tickets.Accesses(), func(a service.Access) bool {
		return a.Grant == g.ID && a.Subject == triage && a.Task == k.ID && a.JTI != "" && a.Status == 200
	}) {
		t.Errorf("the upstream's log holds nothing of grant %s", g.ID)
	}
}

// anotherTicket than the granted one is not let out.
func (s scene) anotherTicket(t *testing.T, k *stack.Task) {
	d := stack.WantDenied(t, s.get(t, k, s.ticket(2)), "call_not_granted")
	if len(d.Next) != 1 || d.Next[0].Params["ticket"] != s.ticket(2) {
		t.Errorf("the denial does not say what to ask for: %+v", d)
	}
	s.neverThere(t, s.ticket(2))
}

func (s scene) neverThere(t *testing.T, ticket string) {
	t.Helper()
	for _, a := range s.Tickets.Accesses() {
		if strings.HasSuffix(a.Path, "/"+ticket) {
			t.Errorf("a call for %s reached the upstream", ticket)
		}
	}
}

// forgeries are taken off, and the call goes with the minted token alone.
func (s scene) forgeries(t *testing.T, k *stack.Task) {
	g := k.ReadTicket(t, s.ticket(3))
	r := s.agent.get(t, k, stack.Tickets+s.ticket(3), fields{
		"Authorization": "Bearer forged-by-the-agent", "Cookie": "session=forged", "X-Api-Key": "forged", "Exeat-Grant": g.ID,
	})
	s.seen(t, r, k, g)
	for _, a := range s.Tickets.Accesses() {
		if a.Grant != g.ID {
			continue
		}
		if a.Authorizations != 1 || a.Refused != "" {
			t.Errorf("%d Authorization headers arrived: %s", a.Authorizations, a.Refused)
		}
		for _, h := range []string{"Cookie", "X-Api-Key", "Exeat-Grant", "Proxy-Authorization"} {
			if slices.Contains(a.Headers, h) {
				t.Errorf("%s arrived", h)
			}
		}
	}
}

// rounds is how often in a row the very next call must succeed.
const rounds = 12

// everyGrantWorksAtOnce: the very next call, with a fresh grant in the same task
// and with the first grant of a fresh task.
func (s scene) everyGrantWorksAtOnce(t *testing.T, k *stack.Task) {
	for i := range rounds {
		g := k.ReadTicket(t, s.ticket(100+i))
		s.seen(t, s.get(t, k, s.ticket(100+i)), k, g)
		fresh := s.sidecar.Task(t)
		g = fresh.ReadTicket(t, s.ticket(200+i))
		s.seen(t, s.get(t, fresh, s.ticket(200+i)), fresh, g)
		if i%2 == 0 {
			fresh.Complete(t)
		}
	}
}

// expiry: calls go out until the end, and none after.
func (s scene) expiry(t *testing.T, k *stack.Task) {
	g := k.Grant(t, "read-ticket", 3*time.Second, "project", "OPS", "ticket", s.ticket(4))
	s.seen(t, s.get(t, k, s.ticket(4)), k, g)
	time.Sleep(time.Until(g.Until.Add(-100 * time.Millisecond))) // the end is a time
	for !s.deniedAfter(t, k, g) {
	}
	got, err := k.API.GetGrant(stack.Context(t), g.ID, 0)
	if err != nil || got.EndReason != "" && got.EndReason != "expired" {
		t.Errorf("got %+v %v, want it expired", got, err)
	}
}

// cutTime is how long after a grant's end the cut of its connections may take.
const cutTime = time.Second

// deniedAfter makes a call around the grant's end, and reports whether it was
// sent after the end and denied. The cut takes with it what is on a connection
// made before, so until then a call may break off; that lets nothing out.
func (s scene) deniedAfter(t *testing.T, k *stack.Task, g client.Grant) bool {
	t.Helper()
	late := time.Since(g.Until)
	r := s.get(t, k, s.ticket(4))
	if r.Err != nil && late < cutTime {
		return false
	}
	// Sent before the end, its token may be over when it arrives, and no time may
	// be left for it.
	if late < 0 && slices.Contains([]int{200, 401, 504}, r.Status) {
		return false
	}
	stack.WantDenied(t, r, "grant_expired")
	return late >= 0
}

// afterTheTask nothing of it is left: its proxy credential opens no room.
func (s scene) afterTheTask(t *testing.T, k *stack.Task, g client.Grant) {
	r := k.Complete(t)
	if r.Task.EndReason != "completed" || len(r.Grants) == 0 || r.Calls.Allowed < rounds || r.Calls.Denied["call_not_granted"] != 1 {
		t.Errorf("the receipt says %+v", r)
	}
	before := len(s.Tickets.Accesses())
	if r := s.get(t, k, s.ticket(1)); r.Status == 200 {
		t.Errorf("a call under %s was let out after its task: %s", g.ID, r.Body)
	}
	for _, a := range s.Tickets.Accesses()[before:] {
		if a.Grant == g.ID {
			t.Errorf("a call under %s arrived after its task", g.ID)
		}
	}
}

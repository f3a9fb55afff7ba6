package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/examples/tickets/service"
	"github.com/exeat-dev/exeat/test/stack"
)

// ending is one way in which a stream's grant ends.
type ending struct {
	name   string
	reason string
	ttl    time.Duration
	// end ends it, and returns how far the ending is; nil where time does.
	end func(t testing.TB, op *client.Client, k *stack.Task, g client.Grant) client.Ending
}

var endings = []ending{
	{"expiry of the grant", "expired", 3 * time.Second, nil},
	{"end of the grant", "completed", time.Minute, func(t testing.TB, _ *client.Client, k *stack.Task, g client.Grant) client.Ending {
		return ended(t)(k.API.EndGrant(stack.Context(t), g.ID))
	}},
	{"end of the task", "completed", time.Minute, func(t testing.TB, _ *client.Client, k *stack.Task, _ client.Grant) client.Ending {
		return k.Complete(t).Ending
	}},
	{"failure of the task", "failed", time.Minute, func(t testing.TB, _ *client.Client, k *stack.Task, _ client.Grant) client.Ending {
		r, err := k.API.FailTask(stack.Context(t), k.ID)
		if err != nil {
			t.Fatal(err)
		}
		return r.Ending
	}},
	{"revocation of the grant", "revoked", time.Minute, func(t testing.TB, op *client.Client, _ *stack.Task, g client.Grant) client.Ending {
		return ended(t)(op.RevokeGrant(stack.Context(t), g.ID))
	}},
	{"revocation of the task", "revoked", time.Minute, func(t testing.TB, op *client.Client, k *stack.Task, _ client.Grant) client.Ending {
		r, err := op.RevokeTask(stack.Context(t), k.ID)
		if err != nil {
			t.Fatal(err)
		}
		return r.Ending
	}},
}

func ended(t testing.TB) func(client.EndedGrant, error) client.Ending {
	return func(e client.EndedGrant, err error) client.Ending {
		if err != nil {
			t.Fatal(err)
		}
		return e.Ending
	}
}

// watch opens an event stream under a grant of its own.
func watch(t testing.TB, a agent, k *stack.Task, ttl time.Duration, ticket string) (*stream, client.Grant) {
	t.Helper()
	g := k.Grant(t, "watch-ticket", ttl, "ticket", ticket)
	s := a.follow(t, k, stack.Tickets+ticket+"/events")
	s.awaitEvents(t, 1)
	return s, g
}

// awaitClosed returns once the upstream has seen the stream under a grant end.
func awaitClosed(t testing.TB, st *stack.Stack, g client.Grant) {
	t.Helper()
	if _, err := st.Tickets.Await(stack.Context(t), func(list []service.Access) bool {
		return slices.ContainsFunc(list, func(a service.Access) bool { return a.Grant == g.ID && !a.Ended.IsZero() && a.Events > 0 })
	}); err != nil {
		t.Errorf("the stream is still open at the upstream: %v", err)
	}
}

// TestAnOpenStreamIsCut: however its grant ends, whatever the agent speaks. All
// streams go to one destination through one sidecar, and those of other tasks
// go on meanwhile.
func TestAnOpenStreamIsCut(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc := st.Sidecar(t, "triage")
	op, err := st.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(op.Close)
	var agents []agent
	var others []*stream
	for i, k := range kinds {
		agents = append(agents, k.start(t))
		s, _ := watch(t, agents[i], sc.Task(t), 5*time.Minute, fmt.Sprintf("OPS-9%d", i))
		others = append(others, s)
	}
	t.Run("by", func(t *testing.T) {
		for i, e := range endings {
			for j, k := range kinds {
				t.Run(e.name+"/"+k.name, func(t *testing.T) {
					t.Parallel()
					e.cuts(t, st, op, sc.Task(t), agents[j], fmt.Sprintf("OPS-%d%d", i+1, j+1))
				})
			}
		}
	})
	for i, s := range others {
		s.awaitEvents(t, 2)
		if !s.open() {
			t.Errorf("the stream of another task was cut (%s)", kinds[i].name)
		}
	}
}

func (e ending) cuts(t *testing.T, st *stack.Stack, op *client.Client, k *stack.Task, a agent, ticket string) {
	s, g := watch(t, a, k, e.ttl, ticket)
	if e.end != nil {
		if state := e.end(t, op, k, g); !state.Enforced {
			t.Errorf("the ending is not enforced: %+v", state)
		}
	}
	s.awaitEnd(t)
	if over := time.Now(); e.end == nil && over.Before(g.Until.Add(-50*time.Millisecond)) {
		t.Errorf("the stream was cut at %v, before the grant's end at %v", over, g.Until)
	}
	awaitClosed(t, st, g)
	e.ends(t, op, k, g)
	before := len(accesses(st, ticket))
	if r := a.get(t, k, stack.Tickets+ticket+"/events", nil); r.Status == 200 || len(accesses(st, ticket)) != before {
		t.Errorf("the stream could be opened again: %d %v", r.Status, r.Err)
	}
}

// ends checks what the record says of the grant; expired ones are swept later.
func (e ending) ends(t *testing.T, op *client.Client, k *stack.Task, g client.Grant) {
	t.Helper()
	stack.Await(t, "the grant's end reason "+e.reason, func() bool {
		task, err := op.Task(stack.Context(t), k.ID)
		return err == nil && slices.ContainsFunc(task.Grants, func(x client.Grant) bool {
			return x.ID == g.ID && x.State == "ended" && x.EndReason == e.reason
		})
	})
}

func accesses(st *stack.Stack, ticket string) []service.Access {
	return slices.DeleteFunc(st.Tickets.Accesses(), func(a service.Access) bool { return !strings.Contains(a.Path, "/"+ticket+"/") })
}

// TestTheOtherGrantWorksOn: one of two grants of a task on one destination ends.
// Its stream is cut, with the connections to the destination, and the very next
// call under the other succeeds.
func TestTheOtherGrantWorksOn(t *testing.T) {
	t.Parallel()
	st := stack.Start(t)
	sc := st.Sidecar(t, "triage")
	for i, kind := range kinds {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			a, k := kind.start(t), sc.Task(t)
			ticket := fmt.Sprintf("OPS-%d", i+1)
			k.ReadTicket(t, ticket)
			for range 5 {
				stack.WantOK(t, a.get(t, k, stack.Tickets+ticket, nil))
				s, g := watch(t, a, k, time.Minute, ticket)
				if e := ended(t)(k.API.EndGrant(stack.Context(t), g.ID)); !e.Enforced {
					t.Errorf("the ending is not enforced: %+v", e)
				}
				if kind.multiplexed {
					s.awaitEnd(t)
				}
				stack.WantOK(t, a.get(t, k, stack.Tickets+ticket, nil))
				s.awaitEnd(t)
				awaitClosed(t, st, g)
				stack.WantDenied(t, a.get(t, k, stack.Tickets+ticket+"/events", nil), "grant_ended")
			}
			k.Complete(t)
		})
	}
}

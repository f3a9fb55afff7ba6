package robustness

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

// works tries one task, grant and call.
func works(ctx context.Context, t *testing.T, s *stack.ClusterSidecar) bool {
	task, err := s.API.StartTask(ctx, client.TaskRequest{Type: "probe"})
	if err != nil {
		return false
	}
	k := &stack.Task{Task: task, API: s.API.ForTask(task.Credential), Sidecar: s.Sidecar}
	defer func() { _, _ = k.API.CompleteTask(context.WithoutCancel(ctx), k.ID) }() // it expires otherwise
	g, err := k.API.RequestGrant(ctx, client.GrantRequest{
		Task: k.ID, Capability: "read-ticket", TTL: time.Minute, Wait: 5 * time.Second,
		Params: map[string]string{"project": "OPS", "ticket": "OPS-0"},
	})
	if err != nil || !g.Ready {
		return false
	}
	r := stack.Get(t, k.HTTP(t), stack.Tickets+"OPS-0")
	return r.Err == nil && r.Status == http.StatusOK
}

// Any one process, and any one member of etcd, may die at any time: nothing
// wrong is allowed, and what is right is allowed again at once or after an
// election. How long that takes is told, not tested: machines differ.
func TestAnyOneProcessMayDie(t *testing.T) {
	t.Parallel()
	c := stack.StartCluster(t, stack.ClusterOptions{
		Members: 3, Roles: []string{"api", "api", "xds", "xds", "authz", "authz"}, Staleness: staleness,
	})
	s := c.Sidecar(t, "triage", "one")
	task := s.Task(t)
	task.Grant(t, "read-ticket", 10*time.Minute, "project", "OPS", "ticket", "OPS-1")
	for _, role := range []string{"authz", "xds", "api"} {
		victim := c.Of(role)[0]
		t.Logf("%s died: %s", role, die(t, s, task, victim.Kill))
		victim.Start(t)
		victim.AwaitReady(t)
	}
	for _, leads := range []bool{false, true} {
		victim := c.Etcd.Leader(t)
		if !leads {
			victim = follower(t, c.Etcd)
		}
		t.Logf("an etcd member (leader: %t) died: %s", leads, die(t, s, task, victim.Kill))
		victim.Start(t)
		c.Etcd.AwaitReady(t)
	}
	for _, seen := range c.Mirror.Seen() {
		if seen.Target != "/v1/tickets/OPS-1" && seen.Target != "/v1/tickets/OPS-0" {
			t.Errorf("%s came to the upstream without a grant", seen.Target)
		}
	}
}

// follower is a member that does not lead.
func follower(t *testing.T, e *stack.Etcd) *stack.Member {
	t.Helper()
	leader := e.Leader(t)
	for _, m := range e.Members {
		if m != leader {
			return m
		}
	}
	t.Fatal("etcd has one member only")
	return nil
}

// outage is what callers saw of a death.
type outage struct {
	calls, denied int
	longest       time.Duration // between two calls that came through
	grant         time.Duration // until a new task's grant and call worked
	enforced      time.Duration // from asking for an end to its being enforced
}

func (o outage) String() string {
	return fmt.Sprintf("%d of %d calls denied, the longest gap %v; a new grant worked after %v; an end was enforced in %v",
		o.denied, o.calls, o.longest.Round(time.Millisecond), o.grant.Round(time.Millisecond), o.enforced.Round(time.Millisecond))
}

// die kills a process under calls, and gives what they saw of it.
func die(t *testing.T, s *stack.ClusterSidecar, task *stack.Task, kill func()) outage {
	t.Helper()
	var o outage
	hc := task.HTTP(t)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		last := time.Now()
		for {
			select {
			case <-stop:
				return
			default:
			}
			o.calls++
			if through(hc, "OPS-1") {
				o.longest = max(o.longest, time.Since(last))
				last = time.Now()
			} else {
				o.denied++
			}
			if through(hc, "OPS-2") {
				t.Error("a call that was never granted came through")
			}
		}
	}()
	kill()
	began := time.Now()
	wantRecovered(t, s)
	o.grant = time.Since(began)
	o.enforced = endEnforced(t, s)
	close(stop)
	<-stopped
	return o
}

// through makes one call and reports whether it was allowed.
func through(hc *http.Client, ticket string) bool {
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, stack.Tickets+ticket, nil)
	if err != nil {
		return false
	}
	resp, err := hc.Do(req)
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// endEnforced ends a task and wants that to be enforced; then nothing of it is
// allowed.
func endEnforced(t *testing.T, s *stack.ClusterSidecar) time.Duration {
	t.Helper()
	task := s.Task(t)
	task.ReadTicket(t, "OPS-0")
	began := time.Now()
	task.Complete(t)
	took := time.Since(began)
	if through(task.HTTP(t), "OPS-0") {
		t.Error("a call came through after its task's end was enforced")
	}
	return took
}

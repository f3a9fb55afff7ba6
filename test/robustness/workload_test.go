package robustness

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/test/stack"
)

// workload is agents that start tasks, ask for grants, call, and have them
// ended by every way, while the system is disturbed. They write down what they
// were told.
type workload struct {
	history   *history
	cluster   *stack.Cluster
	operators []*client.Client
	tickets   atomic.Int64 // no two grants are for one ticket
	seed      uint64
	workers   sync.WaitGroup
	started   atomic.Int64
}

func newWorkload(t *testing.T, c *stack.Cluster, seed uint64) *workload {
	w := &workload{history: newHistory(), cluster: c, seed: seed}
	for _, e := range c.Of("api") {
		w.operators = append(w.operators, e.Operator(t))
	}
	return w
}

// start starts n workers on a sidecar; they end with ctx.
func (w *workload) start(t *testing.T, ctx context.Context, s *stack.ClusterSidecar, n int) {
	t.Helper()
	pem, err := os.ReadFile(s.CAFile)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	for range n {
		id := w.started.Add(1)
		a := &agent{workload: w, sidecar: s, roots: roots, r: rand.New(rand.NewPCG(w.seed, uint64(id)))}
		w.workers.Go(func() {
			for ctx.Err() == nil {
				a.task(ctx)
			}
		})
	}
}

// agent is one worker.
type agent struct {
	*workload
	sidecar *stack.ClusterSidecar
	roots   *x509.CertPool
	r       *rand.Rand

	current *stack.Task
	http    *http.Client
}

// Bounds of one question: long enough for an election, and not for ever.
const (
	askTime  = 8 * time.Second
	callTime = 3 * time.Second
)

// task is one task from start to end.
func (a *agent) task(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, askTime)
	task, err := a.sidecar.API.StartTask(asking, client.TaskRequest{Type: "robustness"})
	cancel()
	if err != nil {
		a.rest(ctx, 50*time.Millisecond)
		return
	}
	a.current = &stack.Task{Task: task, API: a.sidecar.API.ForTask(task.Credential), Sidecar: a.sidecar.Sidecar}
	transport := &http.Transport{
		Proxy: http.ProxyURL(a.current.ProxyURL()), TLSClientConfig: &tls.Config{RootCAs: a.roots}, ForceAttemptHTTP2: true,
	}
	a.http = &http.Client{Transport: transport, Timeout: callTime}
	defer transport.CloseIdleConnections()
	for range 1 + a.r.IntN(3) {
		a.grant(ctx)
	}
	a.endTask(ctx)
}

func (a *agent) rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// grant asks for one, calls under it, and has it end.
func (a *agent) grant(ctx context.Context) {
	e := &grantEvent{Task: a.current.ID, Ticket: fmt.Sprintf("OPS-%d", a.tickets.Add(1)), Asked: time.Now()}
	asking, cancel := context.WithTimeout(ctx, askTime)
	g, err := a.current.API.RequestGrant(asking, client.GrantRequest{
		Task: a.current.ID, Capability: "read-ticket", TTL: time.Duration(2+a.r.IntN(5)) * time.Second, Wait: 4 * time.Second,
		Params: map[string]string{"project": "OPS", "ticket": e.Ticket},
	})
	cancel()
	e.Told = time.Now()
	if err == nil {
		e.ID, e.Until = g.ID, g.Until
	}
	a.history.grant(e)
	a.calls(ctx, e.Ticket, 3+a.r.IntN(10))
	if err != nil {
		return
	}
	switch a.r.IntN(3) {
	case 0:
		a.endGrant(ctx, g.ID, a.current.API.EndGrant)
	case 1:
		a.endGrant(ctx, g.ID, a.operators[a.r.IntN(len(a.operators))].RevokeGrant)
	default: // it expires, under calls that go on
		for ctx.Err() == nil && time.Now().Before(g.Until.Add(300*time.Millisecond)) {
			a.calls(ctx, e.Ticket, 3)
		}
	}
	a.calls(ctx, e.Ticket, 5) // that it has ended is for the others to see to
}

func (a *agent) endGrant(ctx context.Context, id string, end func(context.Context, string) (client.EndedGrant, error)) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	// Calls go on meanwhile: what is under way is to be cut or waited for.
	stop := a.meanwhile(ctx)
	out, err := end(ctx, id)
	told := time.Now()
	stop()
	if err == nil {
		a.history.end(&endEvent{Task: a.current.ID, Grant: id, Told: told, Enforced: out.Ending.Enforced})
	}
}

// meanwhile calls under the latest ticket until it is stopped.
func (a *agent) meanwhile(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var done sync.WaitGroup
	ticket := fmt.Sprintf("OPS-%d", a.tickets.Load())
	done.Go(func() {
		for ctx.Err() == nil {
			a.call(ctx, ticket)
		}
	})
	return func() { cancel(); done.Wait() }
}

func (a *agent) endTask(ctx context.Context) {
	asking, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	end := a.current.API.CompleteTask
	if a.r.IntN(3) == 0 {
		end = a.operators[a.r.IntN(len(a.operators))].RevokeTask
	}
	receipt, err := end(asking, a.current.ID)
	if err == nil {
		a.history.end(&endEvent{Task: a.current.ID, Told: time.Now(), Enforced: receipt.Ending.Enforced})
	}
	a.calls(ctx, fmt.Sprintf("OPS-%d", a.tickets.Load()), 2)
}

// calls are some calls for a ticket, and now and then for one that nobody has.
func (a *agent) calls(ctx context.Context, ticket string, n int) {
	for range n {
		if ctx.Err() != nil {
			return
		}
		target := ticket
		if a.r.IntN(8) == 0 {
			target = "OPS-999999999"
		}
		a.call(ctx, target)
		a.rest(ctx, time.Duration(a.r.IntN(20))*time.Millisecond)
	}
}

// call notes how one call was answered: "" is that it came through.
func (a *agent) call(ctx context.Context, ticket string) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, stack.Tickets+ticket, nil)
	if err != nil {
		panic(err) // a constant of ours
	}
	resp, err := a.http.Do(req)
	if err != nil {
		a.history.call("no answer")
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		a.history.call("cut")
	case resp.StatusCode == http.StatusOK:
		a.history.call("allowed")
	default:
		var d stack.Denial
		_ = json.Unmarshal(body, &d) // then it has no reason
		a.history.call(fmt.Sprintf("%d %s", resp.StatusCode, d.Reason))
	}
}

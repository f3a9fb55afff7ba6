package audit

import (
	"container/list"
	"context"
	"maps"
	"net"
	"strconv"
	"sync"

	"github.com/exeat-dev/exeat/policy"
)

// Bounds on what is remembered: tasks, the least recently touched ones leave
// first, and denials per task.
const (
	maxTasks   = 8192
	maxDenials = 256
)

// note is what a record adds to its task's tally.
type note struct {
	task           policy.TaskID
	reason         policy.Reason
	denial         *Denial // of a denied decision
	action         CredentialAction
	outcome        string
	sent, received uint64
}

// tallies remembers tasks. Only the writer adds to it, so that no check waits
// for a reader.
type tallies struct {
	mu    sync.Mutex
	tasks map[policy.TaskID]*list.Element
	order *list.List // of *taskTally, latest first
}

// taskTally is one task's, guarded by tallies.mu.
type taskTally struct {
	task    policy.TaskID
	tally   Tally
	denials []Denial // the latest, in order
	count   int      // of all denials
	more    chan struct{}
}

func (t *tallies) init() {
	t.tasks = make(map[policy.TaskID]*list.Element)
	t.order = list.New()
}

// touch finds or makes a task's tally; t.mu is held.
func (t *tallies) touch(task policy.TaskID) *taskTally {
	if el, ok := t.tasks[task]; ok {
		t.order.MoveToFront(el)
		return el.Value.(*taskTally)
	}
	if t.order.Len() >= maxTasks {
		old := t.order.Remove(t.order.Back()).(*taskTally)
		delete(t.tasks, old.task)
		close(old.more) // whoever waits looks again
	}
	n := &taskTally{task: task, more: make(chan struct{})}
	n.tally.Denied = make(map[policy.Reason]int)
	t.tasks[task] = t.order.PushFront(n)
	return n
}

// add counts a batch of written records.
func (t *tallies) add(batch []*entry) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range batch {
		if e.note.task != "" {
			t.touch(e.note.task).add(e.kind, &e.note)
		}
	}
}

func (n *taskTally) add(kind recordType, x *note) {
	switch kind {
	case typeDecision:
		n.decided(x)
	case typeCredential:
		n.tally.credential(x)
	case typeOutcome:
		n.tally.Calls++
		n.tally.Sent += x.sent
		n.tally.Received += x.received
	}
}

// decided counts a decision and keeps a denial for the agent's own eyes.
func (n *taskTally) decided(x *note) {
	if x.reason == policy.Allowed {
		n.tally.Allowed++
		return
	}
	n.tally.Denied[x.reason]++
	if x.denial == nil {
		return
	}
	n.count++
	x.denial.N = n.count
	if len(n.denials) == maxDenials {
		n.denials = append(n.denials[:0], n.denials[1:]...)
	}
	n.denials = append(n.denials, *x.denial)
	close(n.more)
	n.more = make(chan struct{})
}

// credential counts a minting or a revocation by its outcome.
func (t *Tally) credential(x *note) {
	if x.action != CredentialRevoked {
		switch x.outcome {
		case "failed":
			t.MintFailed++
		case "injected":
			t.Injected++
		default:
			t.Minted++
		}
		return
	}
	switch x.outcome {
	case "revoked":
		t.Revoked++
	case "expires_only":
		t.ExpiresOnly++
	case "unsupported":
		t.Unsupported++
	default:
		t.RevokeFailed++
	}
}

// tally copies a task's tally; an unknown task did nothing.
func (t *tallies) tally(task policy.TaskID) Tally {
	t.mu.Lock()
	defer t.mu.Unlock()
	el, ok := t.tasks[task]
	if !ok {
		return Tally{Denied: map[policy.Reason]int{}}
	}
	got := el.Value.(*taskTally).tally
	got.Denied = maps.Clone(got.Denied)
	return got
}

// denials waits, if asked to, until there is something after a number.
func (t *tallies) denials(
	ctx context.Context, task policy.TaskID, after int, wait bool, stopped <-chan struct{},
) ([]Denial, int, error) {
	for {
		got, next, more := t.since(task, after)
		if len(got) > 0 || !wait {
			return got, next, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, next, nil
		case <-stopped:
			return nil, next, ErrClosed
		}
	}
}

// since gives the denials after a number, and what closes when there is another.
func (t *tallies) since(task policy.TaskID, after int) ([]Denial, int, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.touch(task)
	if after > n.count {
		after = n.count // a number from before a restart: go on from here
	}
	fresh := min(n.count-after, len(n.denials))
	return append([]Denial(nil), n.denials[len(n.denials)-fresh:]...), n.count, n.more
}

// urlOf gives the call's URL without its query.
func urlOf(c *Call) string {
	host := c.Host
	if c.Port != 0 && !(c.Scheme == "https" && c.Port == 443) && !(c.Scheme == "http" && c.Port == 80) {
		host = net.JoinHostPort(host, strconv.Itoa(int(c.Port)))
	}
	return c.Scheme + "://" + host + c.Path
}

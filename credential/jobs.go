package credential

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// jobs is a queue of grants to look at, each at most once at a time and at its
// due time. What a look finds to do is not in the queue: it is read from the
// store each time, so that nothing is lost with the queue.
type jobs struct {
	now  func() time.Time
	wake chan struct{} // of one

	mu   sync.Mutex
	jobs map[policy.GrantID]*job
	due  dueHeap // those that do not run
}

type job struct {
	grant policy.GrantID
	task  policy.TaskID
	at    time.Time
	place int // in due, or running
	again bool
}

const running = -1

// recheck bounds how long the queue trusts its timer: the store's clock may
// jump ahead of this machine's.
const recheck = time.Second

func newJobs(now func() time.Time) *jobs {
	return &jobs{now: now, wake: make(chan struct{}, 1), jobs: make(map[policy.GrantID]*job)}
}

// add asks for a look at a grant, at the latest at the given time.
func (q *jobs) add(grant policy.GrantID, task policy.TaskID, at time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	j, ok := q.jobs[grant]
	if !ok {
		j = &job{grant: grant, task: task, at: at}
		q.jobs[grant] = j
		heap.Push(&q.due, j)
		q.kick()
		return
	}
	if task != "" {
		j.task = task
	}
	switch {
	case j.place == running:
		j.again = true
	case at.Before(j.at):
		j.at = at
		heap.Fix(&q.due, j.place)
		q.kick()
	}
}

// kick makes the scheduler look at the clock now.
func (q *jobs) kick() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take gives a job that is due and its task, or how long to wait for the next.
func (q *jobs) take() (j *job, task policy.TaskID, wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.due) == 0 {
		return nil, "", recheck
	}
	if wait := q.due[0].at.Sub(q.now()); wait > 0 {
		return nil, "", min(wait, recheck)
	}
	j = heap.Pop(&q.due).(*job)
	j.place, j.again = running, false
	return j, j.task, 0
}

// done puts a job back for its next look; the zero time forgets it.
func (q *jobs) done(j *job, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if j.again {
		next = q.now()
	}
	if next.IsZero() {
		delete(q.jobs, j.grant)
		return
	}
	j.at = next
	heap.Push(&q.due, j)
	q.kick()
}

// look does what is to be done for a grant and says when to look again.
type look func(ctx context.Context, grant policy.GrantID, task policy.TaskID) time.Time

// run looks at due grants with a number of workers until ctx ends and the last
// look is over.
func (q *jobs) run(ctx context.Context, workers int, look look) {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, workers)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		j, task, wait := q.take()
		if j == nil {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-q.wake:
			case <-timer.C:
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return
		}
		wg.Go(func() {
			q.done(j, look(ctx, j.grant, task))
			<-slots
		})
	}
}

// dueHeap is a container/heap by time.
type dueHeap []*job

func (h dueHeap) Len() int           { return len(h) }
func (h dueHeap) Less(a, b int) bool { return h[a].at.Before(h[b].at) }
func (h dueHeap) Swap(a, b int) {
	h[a], h[b] = h[b], h[a]
	h[a].place, h[b].place = a, b
}

// Push and Pop are for package heap alone.
func (h *dueHeap) Push(x any) {
	j := x.(*job)
	j.place = len(*h)
	*h = append(*h, j)
}

func (h *dueHeap) Pop() any {
	old := *h
	j := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return j
}

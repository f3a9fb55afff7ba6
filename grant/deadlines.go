package grant

import (
	"container/heap"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// deadlines orders tasks by when something is next to be done about them: one
// entry per task, so that its size is the number of tasks and each change
// costs the logarithm of it.
type deadlines struct {
	queue queue
	byID  map[policy.TaskID]*deadline
}

type deadline struct {
	task  policy.TaskID
	at    time.Time
	place int // in the queue
}

func newDeadlines() *deadlines { return &deadlines{byID: map[policy.TaskID]*deadline{}} }

// set moves a task's deadline; the zero time removes it.
func (d *deadlines) set(id policy.TaskID, at time.Time) {
	e, known := d.byID[id]
	switch {
	case at.IsZero() && known:
		heap.Remove(&d.queue, e.place)
		delete(d.byID, id)
	case at.IsZero():
	case known:
		e.at = at
		heap.Fix(&d.queue, e.place)
	default:
		e = &deadline{task: id, at: at}
		d.byID[id] = e
		heap.Push(&d.queue, e)
	}
}

// next is when the first deadline is, if there is any.
func (d *deadlines) next() (time.Time, bool) {
	if len(d.queue) == 0 {
		return time.Time{}, false
	}
	return d.queue[0].at, true
}

// due takes the first task whose deadline is not after now.
func (d *deadlines) due(now time.Time) (policy.TaskID, bool) {
	if at, ok := d.next(); !ok || at.After(now) {
		return "", false
	}
	id := d.queue[0].task
	d.set(id, time.Time{})
	return id, true
}

// queue is a heap of deadlines by time.
type queue []*deadline

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push is container/heap's.
func (q *queue) Push(x any) {
	e := x.(*deadline)
	e.place = len(*q)
	*q = append(*q, e)
}

// Pop is container/heap's.
func (q *queue) Pop() any {
	old := *q
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return e
}

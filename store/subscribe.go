package store

import (
	"context"
	"maps"
	"sync"

	"github.com/exeat-dev/exeat/policy"
)

// Batch says what changed up to Revision, coalesced since the last Next.
type Batch struct {
	Revision  int64
	All       bool // everything may have (first batch, catalog, rebuild, a wide floor)
	Tasks     map[policy.TaskID]struct{}
	Instances map[policy.Instance]struct{}
}

// maxBatch is how many tasks a slow subscriber's batch names before it says All.
const maxBatch = 16384

// Subscription is one follower of the index.
type Subscription struct {
	index *Index
	ready chan struct{} // holds one when pending is not empty
	mu    sync.Mutex
	next  Batch
	done  chan struct{}
	once  sync.Once
}

// Subscribe follows changes; the first Batch comes at once with All set. A slow subscriber
// coalesces, it never holds up the index.
func (x *Index) Subscribe() *Subscription {
	s := &Subscription{index: x, ready: make(chan struct{}, 1), done: make(chan struct{})}
	x.watchers.add(s)
	s.put(nil, nil, true, x.Revision())
	return s
}

// Next waits for a change. Its error is ctx's, or ErrClosed.
func (s *Subscription) Next(ctx context.Context) (Batch, error) {
	select {
	case <-s.ready:
	case <-s.done:
		return Batch{}, ErrClosed
	case <-s.index.closed:
		return Batch{}, ErrClosed
	case <-ctx.Done():
		return Batch{}, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.next
	s.next = Batch{}
	return b, nil
}

// Close ends the subscription.
func (s *Subscription) Close() {
	s.once.Do(func() {
		s.index.watchers.remove(s)
		close(s.done)
	})
}

func (s *Subscription) put(tasks map[policy.TaskID]struct{}, instances map[policy.Instance]struct{}, all bool, rev int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := &s.next
	b.Revision = max(b.Revision, rev)
	b.All = b.All || all || len(b.Tasks)+len(tasks) > maxBatch
	if b.All {
		b.Tasks, b.Instances = nil, nil // All says it
	} else {
		b.Tasks = merge(b.Tasks, tasks)
		b.Instances = merge(b.Instances, instances)
	}
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

func merge[K comparable](into, from map[K]struct{}) map[K]struct{} {
	if into == nil {
		return maps.Clone(from)
	}
	maps.Copy(into, from)
	return into
}

// watchers are those who are told of changes.
type watchers struct {
	mu    sync.Mutex
	subs  map[*Subscription]struct{}
	tasks map[policy.TaskID]map[chan struct{}]struct{}
}

func (w *watchers) add(s *Subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.subs == nil {
		w.subs = make(map[*Subscription]struct{})
	}
	w.subs[s] = struct{}{}
}

func (w *watchers) remove(s *Subscription) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.subs, s)
}

// await registers a channel that gets a value when the task changes.
func (w *watchers) await(id policy.TaskID) chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	ch := make(chan struct{}, 1)
	if w.tasks == nil {
		w.tasks = make(map[policy.TaskID]map[chan struct{}]struct{})
	}
	if w.tasks[id] == nil {
		w.tasks[id] = make(map[chan struct{}]struct{})
	}
	w.tasks[id][ch] = struct{}{}
	return ch
}

func (w *watchers) forget(id policy.TaskID, ch chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.tasks[id], ch)
	if len(w.tasks[id]) == 0 {
		delete(w.tasks, id)
	}
}

// tell hands a published delta to everybody. It never waits.
func (w *watchers) tell(d *delta) {
	tasks := make(map[policy.TaskID]struct{}, len(d.dirty))
	instances := make(map[policy.Instance]struct{})
	for id, e := range d.dirty {
		tasks[id] = struct{}{}
		if e.instance != "" {
			instances[e.instance] = struct{}{}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for s := range w.subs {
		s.put(tasks, instances, d.all, d.rev)
	}
	if d.all {
		for _, waiting := range w.tasks {
			wake(waiting)
		}
		return
	}
	for id := range tasks {
		wake(w.tasks[id])
	}
}

// wakeAll wakes those who wait for the tasks of a delta, and tells nobody else.
func (w *watchers) wakeAll(d *delta) {
	if len(d.dirty) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for id := range d.dirty {
		wake(w.tasks[id])
	}
}

func wake(waiting map[chan struct{}]struct{}) {
	for ch := range waiting {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// AwaitTask returns the view once cond holds of it (it is called with nil when there is none), or ctx's error.
func (x *Index) AwaitTask(ctx context.Context, id policy.TaskID, cond func(*policy.TaskView) bool) (*policy.TaskView, error) {
	changed := x.watchers.await(id)
	defer x.watchers.forget(id, changed)
	for {
		v := x.Task(id)
		if cond(v) {
			return v, nil
		}
		select {
		case <-changed:
		case <-x.closed:
			return nil, ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

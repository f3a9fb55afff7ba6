package grant

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// retryAfter is how long the sweeper leaves a task alone that it could not deal with.
const retryAfter = time.Second

// Run sweeps while this process leads, and writes again what its own record
// has lost, until ctx ends. What ended by itself is denied without it: the
// sweeper only writes that down, so it may be late, or two may run.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.refill(ctx) })
	s.store.Lead(ctx, "sweeper", s.sweep)
	wg.Wait()
	return nil
}

// sweeper holds when each task is next to be looked at. One goroutine owns it.
type sweeper struct {
	*Service
	due *deadlines
	// cleared holds the ended tasks whose grants each have an end of their own
	// on record; an ended task gets no more grants.
	cleared map[policy.TaskID]struct{}
}

// sweep works until ctx, and with it the leadership, ends. It wakes when the
// index changes and when the next deadline comes; nothing is polled.
func (s *Service) sweep(ctx context.Context) {
	w := sweeper{Service: s, due: newDeadlines(), cleared: map[policy.TaskID]struct{}{}}
	s.follow(ctx, func(next <-chan store.Batch) {
		for {
			timer := w.timer()
			select {
			case b := <-next:
				w.note(b)
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return
			}
			timer.Stop()
			w.work(ctx)
		}
	})
}

// follow hands the index's changes to fn through a channel, and ends both.
func (s *Service) follow(ctx context.Context, fn func(<-chan store.Batch)) {
	sub := s.index.Subscribe()
	defer sub.Close()
	ctx, cancel := context.WithCancel(ctx)
	batches := make(chan store.Batch)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			b, err := sub.Next(ctx)
			if err != nil {
				return
			}
			select {
			case batches <- b:
			case <-ctx.Done():
				return
			}
		}
	})
	fn(batches)
	cancel()
	wg.Wait()
}

// timer fires at the next deadline; without one, in an hour, to no effect.
func (w *sweeper) timer() *time.Timer {
	at, ok := w.due.next()
	if !ok {
		return time.NewTimer(time.Hour)
	}
	return time.NewTimer(max(0, at.Sub(w.store.Now())))
}

// note takes up what changed.
func (w *sweeper) note(b store.Batch) {
	if b.All {
		w.index.EachTask(func(v *policy.TaskView) bool {
			w.due.set(v.Task.ID, w.nextFor(v))
			return true
		})
		return
	}
	for id := range b.Tasks {
		var at time.Time
		if v := w.index.Task(id); v != nil {
			at = w.nextFor(v)
		} else {
			delete(w.cleared, id)
		}
		w.due.set(id, at)
	}
}

// nextFor is when something is to be done about a task: now, if its past is.
func (w *sweeper) nextFor(v *policy.TaskView) time.Time {
	at := v.Task.Until
	if v.Task.State == policy.Ended {
		at = v.Task.EndedAt.Add(w.retention)
	}
	for _, h := range v.Held {
		if v.Task.State != policy.Ended && w.stale(h) {
			return v.Task.Began
		}
		if _, over := w.over(v, h, h.Grant.Until); over {
			// Over at its own end at the latest; over already in any other case.
			if _, now := w.over(v, h, time.Time{}); now {
				return v.Task.Began
			}
			at = earlier(at, h.Grant.Until)
		}
	}
	return at
}

// over says why a grant that is not written off at now has to be.
func (w *sweeper) over(v *policy.TaskView, h *policy.Held, now time.Time) (policy.EndReason, bool) {
	switch {
	case v.Task.State == policy.Ended:
		_, cleared := w.cleared[v.Task.ID]
		return v.Task.End, !cleared && folded(v, h)
	case h.Grant.State == policy.Ended:
		return "", false
	case h.Raised():
		return policy.EndRevoked, true
	case h.Grant.State == policy.Active && !now.Before(h.Grant.Until):
		return policy.EndExpired, true
	case h.Grant.State == policy.Pending && !now.Before(h.Grant.Until):
		return policy.EndRequestExpired, true
	case h.Grant.State == policy.Active && h.Resolved == nil && w.index.Catalog() != nil:
		return policy.EndPolicyChanged, true
	}
	return siblingEnd(v, h)
}

// stale reports whether a pending grant means something else under the catalog
// in force, or nothing.
func (w *sweeper) stale(h *policy.Held) bool {
	return h.Grant.State == policy.Pending && h.Resolved == nil && w.index.Catalog() != nil && !h.Raised()
}

// work deals with every task whose time has come.
func (w *sweeper) work(ctx context.Context) {
	for ctx.Err() == nil {
		id, ok := w.due.due(w.store.Now())
		if !ok {
			return
		}
		v := w.index.Task(id)
		if v == nil {
			delete(w.cleared, id)
			continue
		}
		if err := w.clear(ctx, v); err != nil && ctx.Err() == nil {
			w.log.Warn("sweep failed", slog.String("task", string(id)), slog.Any("error", err))
		}
		// The change comes back through the index and sets the next deadline;
		// this one stands in case that there was nothing to change.
		w.due.set(id, w.store.Now().Add(retryAfter))
	}
}

// clear writes down what has come to an end about one task.
func (w *sweeper) clear(ctx context.Context, v *policy.TaskView) error {
	now := w.store.Now()
	if v.Task.State == policy.Ended && !now.Before(v.Task.EndedAt.Add(w.retention)) {
		if err := w.noteDropped(ctx, v); err != nil { // tried again; until then nothing is lost
			return err
		}
		return ignoreGone(w.store.DropTask(ctx, v.Task.ID))
	}
	if v.Task.State != policy.Ended && !now.Before(v.Task.Until) {
		_, _, err := w.endTask(ctx, v.Task, policy.EndExpired, bySweeper, "")
		return ignoreGone(err)
	}
	var failed error
	for _, h := range v.Held {
		if why, over := w.over(v, h, now); over {
			_, _, err := w.endGrant(ctx, h.Grant, why, bySweeper, "")
			failed = errors.Join(failed, ignoreGone(err))
		} else if v.Task.State != policy.Ended && w.stale(h) {
			failed = errors.Join(failed, ignoreGone(w.reconsider(ctx, h.Grant.Approval)))
		}
	}
	if failed == nil && v.Task.State == policy.Ended {
		w.cleared[v.Task.ID] = struct{}{}
	}
	return failed
}

// ignoreGone takes what is no more as done.
func ignoreGone(err error) error {
	if errors.Is(err, ErrNotFound) || errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// folded reports whether h may show its task's end instead of its own. What
// the task's own time ended at the same moment looks the same.
func folded(v *policy.TaskView, h *policy.Held) bool {
	return v.Task.State == policy.Ended && h.Grant.End == v.Task.End && h.Grant.EndedAt.Equal(v.Task.EndedAt)
}

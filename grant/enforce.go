package grant

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// reach is whom an ending concerns: the instances on which something may be open
// under it, and until when that could stay open by itself.
type reach map[policy.Instance]time.Time

// add takes in that something on an instance may be open until then.
func (r reach) add(i policy.Instance, until time.Time) {
	if i != "" && until.After(r[i]) {
		r[i] = until
	}
}

// merge takes in another reach.
func (r reach) merge(other reach) {
	for i, until := range other {
		r.add(i, until)
	}
}

// enforce waits, at most wait, until an ending at rev holds everywhere, and says
// how far it got. It never fails: the ending is accepted whatever comes.
func (s *Service) enforce(ctx context.Context, r reach, rev int64, accepted time.Time, wait time.Duration) Ending {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	e := s.reached(ctx, r, rev, accepted)
	if e.Waiting == "" {
		s.metrics.enforced.Observe(e.Enforced.Sub(accepted).Seconds())
	}
	return e
}

// reached says how far an ending at rev is by the end of ctx.
func (s *Service) reached(ctx context.Context, r reach, rev int64, accepted time.Time) Ending {
	e := Ending{Accepted: accepted, Revision: rev}
	if s.store.AwaitReplicas(ctx, roleAuthz, rev) != nil {
		e.Waiting = WaitReplicas
		for _, until := range r {
			e.Bound = later(e.Bound, until)
		}
		return e
	}
	for i, until := range r {
		w := s.cut(ctx, i, rev)
		if w == "" || w == WaitDisconnected && !s.store.Now().Before(until) {
			continue // cut, or nothing that was open can still be
		}
		e.Waiting, e.Bound = max(e.Waiting, w), later(e.Bound, until)
	}
	if e.Waiting == "" {
		e.Enforced = s.store.Now()
	}
	return e
}

// cut waits until an instance has applied everything up to rev, its streams
// closed.
func (s *Service) cut(ctx context.Context, i policy.Instance, rev int64) Waiting {
	connected := false
	_, err := s.store.AwaitInstance(ctx, i, func(a store.InstanceAck, ok bool) bool {
		connected = ok
		return !ok || a.Cut >= rev
	})
	switch {
	case err != nil:
		return WaitSidecar
	case !connected:
		return WaitDisconnected
	}
	return ""
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

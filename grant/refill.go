package grant

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// refill writes transitions again that this process's record has lost, from
// the store, which still knows them. Gaps show up at the start and after the
// record could not be written, and so are looked for whenever anything changes.
func (s *Service) refill(ctx context.Context) {
	s.follow(ctx, func(next <-chan store.Batch) {
		for {
			for _, gap := range s.audit.TakeGaps() {
				s.rewrite(ctx, gap)
			}
			select {
			case <-next:
			case <-ctx.Done():
				return
			}
		}
	})
}

// rewrite records every transition that falls into the gap, as recovered.
func (s *Service) rewrite(ctx context.Context, gap audit.Gap) {
	s.index.EachTask(func(v *policy.TaskView) bool {
		t := v.Task
		subject := audit.Subject{Agent: t.Agent, Owner: s.ownerOf(t.Agent), Instance: t.Instance, Task: t.ID}
		s.recover(ctx, gap, t.Life, audit.Transition{Subject: subject, Store: v.Revision})
		for _, h := range v.Held {
			s.recover(ctx, gap, h.Grant.Life, audit.Transition{
				Subject: audit.SubjectOf(&h.Grant), Digest: h.Grant.Digest, Catalog: h.Grant.Catalog, Store: h.MadeAt,
			})
		}
		return ctx.Err() == nil
	})
	s.index.EachFloor(func(scope policy.Scope, c policy.Cause) bool {
		if scope.Kind != policy.ScopeTask && within(gap, c.At) {
			t := scopeTransition(c.At, scope, c, "")
			t.Recovered = true
			s.audit.Transition(ctx, t)
		}
		return ctx.Err() == nil
	})
}

// recover records what of a life falls into the gap.
func (s *Service) recover(ctx context.Context, gap audit.Gap, l policy.Life, t audit.Transition) {
	t.Recovered, t.By, t.Until = true, byService, l.Until
	if within(gap, l.Activated) {
		t.Time, t.From, t.To = l.Activated, policy.StateNone, policy.Active
		s.audit.Transition(ctx, t)
	}
	if l.State == policy.Ended && within(gap, l.EndedAt) {
		t.Time, t.From, t.To, t.End = l.EndedAt, policy.Active, policy.Ended, l.End
		s.audit.Transition(ctx, t)
	}
}

func within(gap audit.Gap, at time.Time) bool {
	return !at.IsZero() && !at.Before(gap.Since) && !at.After(gap.Until)
}

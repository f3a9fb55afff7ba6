package grant

import (
	"context"
	"errors"
	"log/slog"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Consume spends one use of a grant and of all that it descends from: exactly
// one for one UseRequest.ID, whatever is lost, killed or asked again. Whatever
// fails denies; what it spent then stays spent.
func (s *Service) Consume(ctx context.Context, h *policy.Held, r policy.UseRequest) policy.Spending {
	began := s.store.Now()
	links, ok := s.links(h)
	if !ok {
		return policy.Spending{Reason: policy.GrantEnded}
	}
	use, err := s.store.Consume(ctx, store.Use{UseRequest: r, Links: links})
	out := spending(use, err)
	s.metrics.uses.WithLabelValues(out.Reason.String()).Inc()
	s.metrics.useTime.Observe(s.store.Now().Sub(began).Seconds())
	if out.Reason == policy.StateStale && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "a use could not be spent; its call is denied",
			slog.String("grant", string(h.Grant.ID)), slog.Any("error", err))
	}
	return out
}

// Settle takes in how the call of a use ended. Only one that never reached the
// upstream gives its use back.
func (s *Service) Settle(ctx context.Context, h *policy.Held, use string, end policy.CallEnd) error {
	links, ok := s.links(h)
	if !ok {
		return nil // ended, with all that it was used for
	}
	return s.store.Settle(ctx, store.Use{UseRequest: policy.UseRequest{ID: use}, Links: links}, end)
}

// links lists what a use of h is a use of, the root first. An ancestor that is
// not there any more has ended, and h with it.
func (s *Service) links(h *policy.Held) ([]store.UseLink, bool) {
	list := make([]store.UseLink, 0, len(h.Grant.Chain)+1)
	for _, id := range h.Grant.Chain {
		task := s.index.TaskOfGrant(id)
		above := held(s.index.Task(task), id)
		if above == nil {
			return nil, false
		}
		list = append(list, store.UseLink{Task: task, Grant: id, Limits: above.Limits()})
	}
	return append(list, store.UseLink{Task: h.Grant.Task, Grant: h.Grant.ID, Limits: h.Limits()}), true
}

// spending puts what the store said into a decision's words.
func spending(use policy.Use, err error) policy.Spending {
	var late *store.RateError
	switch {
	case err == nil:
		return policy.Spending{Reason: policy.Allowed, Use: &use}
	case errors.Is(err, store.ErrExhausted):
		return policy.Spending{Reason: policy.UsesExhausted, Use: &use}
	case errors.Is(err, store.ErrReplayed):
		return policy.Spending{Reason: policy.Replayed}
	case errors.As(err, &late):
		return policy.Spending{Reason: policy.RateLimited, After: late.After}
	case errors.Is(err, store.ErrFloor), errors.Is(err, store.ErrConflict), errors.Is(err, store.ErrNotFound):
		return policy.Spending{Reason: policy.GrantEnded}
	case errors.Is(err, store.ErrFull):
		return policy.Spending{Reason: policy.Overloaded}
	}
	return policy.Spending{Reason: policy.StateStale}
}

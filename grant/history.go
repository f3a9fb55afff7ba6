package grant

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/policy/rego"
	"github.com/exeat-dev/exeat/store"
)

// What policies may ask about the past outlives processes and is the same for
// every replica: it is in a bucket of the store, kept only while a policy asks
// for it, and never longer than a day.
const (
	bucketHistory = "history"
	day           = 24 * time.Hour
	swapAttempts  = 64
)

// history is what one request has found out about the past, so that trying
// again neither counts it twice nor reads it twice.
type history struct {
	// requests are to be counted: as many as are asked for together, and none
	// when what was asked for is looked at again.
	requests int
	counted  bool
	owner    rates
}

// historyOf gathers what the policies in force ask for.
func (s *Service) historyOf(
	ctx context.Context, cat *policy.Catalog, v *policy.TaskView, a policy.Ask, h *history, now time.Time,
) (rego.IssueHistory, error) {
	out := rego.IssueHistory{Grants: len(v.Held)}
	for _, n := range s.audit.Tally(v.Task.ID).Denied {
		out.Denials += n
	}
	if cat.Policies().IssueUses("history", "owner") {
		if err := s.countRequests(ctx, a.Agent.OwnerGroups, h, now); err != nil {
			return out, fmt.Errorf("the owner's history: %w", err)
		}
		out.OwnerMinute, out.OwnerHour, out.OwnerDay = h.owner.counts(now)
	}
	if cat.Policies().IssueUses("history", "share24h") {
		spans, err := s.spans(ctx, a.Agent.Name, a.Resolved.Capability.Name)
		if err != nil {
			return out, fmt.Errorf("the agent's history: %w", err)
		}
		s.refine(&spans)
		out.Share = spans.share(now)
	}
	return out, nil
}

// countRequests counts a request for every group of its owner, and keeps what
// was there before of the group with the most in the last hour.
func (s *Service) countRequests(ctx context.Context, groups []string, h *history, now time.Time) error {
	if h.counted {
		return nil
	}
	for _, group := range groups {
		var before rates
		err := change(ctx, s.past, "owner/"+group, func(r *rates) {
			r.prune(now)
			before = r.clone()
			r.add(now, h.requests)
		})
		if err != nil {
			return err
		}
		if _, most, _ := h.owner.counts(now); !h.counted || before.hour(now) > most {
			h.owner = before
		}
		h.counted = true
	}
	return nil
}

// noteHeld writes down for how long a grant will be held, before there is one:
// if the process dies in between, the share is too large rather than too small.
func (s *Service) noteHeld(ctx context.Context, cat *policy.Catalog, g policy.Grant) error {
	if !cat.Policies().IssueUses("history", "share24h") {
		return nil
	}
	return change(ctx, s.past, spansKey(g.Agent, g.Capability), func(h *spans) {
		s.refine(h)
		h.prune(s.store.Now())
		h.Open[g.ID] = span{g.Activated.Unix(), g.Until.Unix()}
	})
}

// noteDropped corrects what was written down of a task's grants that ended
// before their time, as long as their ends are known.
func (s *Service) noteDropped(ctx context.Context, v *policy.TaskView) error {
	if !s.index.Catalog().Policies().IssueUses("history", "share24h") {
		return nil
	}
	early := map[string][]policy.Grant{}
	for _, h := range v.Held {
		if g := h.Grant; g.State == policy.Ended && g.EndedAt.Before(g.Until) {
			key := spansKey(g.Agent, g.Capability)
			early[key] = append(early[key], g)
		}
	}
	for key, grants := range early {
		err := change(ctx, s.past, key, func(h *spans) {
			for _, g := range grants {
				h.end(g.ID, g.EndedAt)
			}
			s.refine(h)
			h.prune(s.store.Now())
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Service) spans(ctx context.Context, agent, capability string) (spans, error) {
	var h spans
	e, err := s.past.Get(ctx, spansKey(agent, capability))
	if errors.Is(err, store.ErrNotFound) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	return h, json.Unmarshal(e.Value, &h)
}

// refine ends the open spans of grants that are known to have ended. Those
// that the index no longer knows were corrected when their tasks were dropped.
func (s *Service) refine(h *spans) {
	for id := range h.Open {
		if held := held(s.index.Task(s.index.TaskOfGrant(id)), id); held != nil && held.Grant.State == policy.Ended {
			h.end(id, held.Grant.EndedAt)
		}
	}
}

// spansKey names the pair; neither part holds a slash.
func spansKey(agent, capability string) string { return "held/" + agent + "/" + capability }

// change applies fn to a value of the bucket by compare-and-swap.
func change[T any, P interface {
	*T
	init()
}](ctx context.Context, b *store.Bucket, key string, fn func(P)) error {
	for range swapAttempts {
		e, err := b.Get(ctx, key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var value T
		if err == nil {
			if err := json.Unmarshal(e.Value, &value); err != nil {
				return err
			}
		}
		P(&value).init()
		fn(&value)
		text, err := json.Marshal(value)
		if err != nil {
			return err
		}
		if bytes.Equal(text, e.Value) {
			return nil
		}
		if _, err := b.Swap(ctx, key, e.Revision, text); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
	return store.ErrConflict
}

// span is a time from and to, in seconds since 1970; to is not in it.
type span struct{ From, To int64 }

// spans are the times in which an agent held a capability.
type spans struct {
	Open   map[policy.GrantID]span `json:",omitempty"` // may still be corrected
	Closed []span                  `json:",omitempty"` // in order, apart from each other
}

func (h *spans) init() {
	if h.Open == nil {
		h.Open = map[policy.GrantID]span{}
	}
}

// end makes a grant's span end earlier.
func (h *spans) end(id policy.GrantID, at time.Time) {
	if s, ok := h.Open[id]; ok {
		// A second that was begun counts as held.
		s.To = max(s.From, min(s.To, at.Unix()+1))
		h.Open[id] = s
	}
}

// maxClosed bounds a pair's record; more than that are joined where the gap is
// smallest, so that the share is rather too large.
const maxClosed = 256

// prune closes what is over and forgets what is older than a day.
func (h *spans) prune(now time.Time) {
	closed := h.Closed
	for id, s := range h.Open {
		if s.To <= now.Unix() {
			closed = append(closed, s)
			delete(h.Open, id)
		}
	}
	oldest := now.Add(-day).Unix()
	closed = slices.DeleteFunc(closed, func(s span) bool { return s.To <= oldest })
	h.Closed = union(closed)
	for len(h.Closed) > maxClosed {
		h.Closed = joinNearest(h.Closed)
	}
}

// union puts spans in order and joins those that overlap or touch.
func union(list []span) []span {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b span) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	var out []span
	for _, s := range list {
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}

func joinNearest(list []span) []span {
	at := 1
	for i := 2; i < len(list); i++ {
		if list[i].From-list[i-1].To < list[at].From-list[at-1].To {
			at = i
		}
	}
	list[at-1].To = list[at].To
	return slices.Delete(list, at, at+1)
}

// share of the last day, 0 to 1, in which some grant was held.
func (h spans) share(now time.Time) float64 {
	from, to := now.Add(-day).Unix(), now.Unix()
	all := slices.AppendSeq(slices.Clone(h.Closed), maps.Values(h.Open))
	held := int64(0)
	for _, s := range union(all) {
		held += max(0, min(s.To, to)-max(s.From, from))
	}
	return float64(held) / day.Seconds()
}

// rates counts by second, minute and hour: as much as is needed to look back a
// minute, an hour and a day.
type rates struct {
	Seconds, Minutes, Hours map[int64]int `json:",omitempty"`
}

func (r *rates) init() {
	for _, m := range []*map[int64]int{&r.Seconds, &r.Minutes, &r.Hours} {
		if *m == nil {
			*m = map[int64]int{}
		}
	}
}

func (r *rates) clone() rates {
	return rates{maps.Clone(r.Seconds), maps.Clone(r.Minutes), maps.Clone(r.Hours)}
}

func (r *rates) add(now time.Time, n int) {
	if n == 0 {
		return
	}
	t := now.Unix()
	r.Seconds[t] += n
	r.Minutes[t/60] += n
	r.Hours[t/3600] += n
}

func (r *rates) prune(now time.Time) {
	t := now.Unix()
	maps.DeleteFunc(r.Seconds, func(at int64, _ int) bool { return at <= t-60 })
	maps.DeleteFunc(r.Minutes, func(at int64, _ int) bool { return at < t/60-60 })
	maps.DeleteFunc(r.Hours, func(at int64, _ int) bool { return at < t/3600-24 })
}

// counts looks back a minute, an hour and a day. An hour's first minute and a
// day's first hour count whole.
func (r *rates) counts(now time.Time) (minute, hour, all int) {
	past := r.clone()
	past.prune(now)
	return sum(past.Seconds), sum(past.Minutes), sum(past.Hours)
}

func (r *rates) hour(now time.Time) int {
	_, n, _ := r.counts(now)
	return n
}

func sum(m map[int64]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}

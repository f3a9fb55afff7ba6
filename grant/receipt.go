package grant

import (
	"context"
	"time"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// Receipt is what a task did, given when it ends.
type Receipt struct {
	Task   policy.Task
	Ending Ending
	Grants []policy.Grant
	Used   map[policy.GrantID]int64 // of limited grants
	Tally  audit.Tally
}

// receipt gathers it. Its numbers are those of this process's record.
func (s *Service) receipt(ctx context.Context, t policy.Task, e Ending) (Receipt, error) {
	r := Receipt{Task: t, Ending: e, Used: map[policy.GrantID]int64{}}
	now := s.store.Now()
	if v := s.index.Task(t.ID); v != nil {
		for _, h := range v.Held {
			r.Grants = append(r.Grants, effective(h, now))
			r.Used[h.Grant.ID] = h.Use.Used
		}
	}
	r.Tally = s.audit.Tally(t.ID)
	return r, nil
}

// Bounds of settleTally.
const (
	tallyWait  = 300 * time.Millisecond
	tallyEvery = 10 * time.Millisecond
)

// settleTally gives the record a moment to catch up with an ending that is
// enforced already: what is taken back upstream is counted once it was written
// down. It is about the receipt alone, so it is short and cannot fail.
func (s *Service) settleTally(ctx context.Context, id policy.TaskID) {
	ctx, cancel := context.WithTimeout(ctx, tallyWait)
	defer cancel()
	_ = s.audit.Flush(ctx) // a disk that hangs leaves the numbers as they are
	ticker := time.NewTicker(tallyEvery)
	defer ticker.Stop()
	for outstanding(s.audit.Tally(id)) > 0 {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// outstanding counts credentials whose end is not on record.
func outstanding(t audit.Tally) int {
	return t.Minted + t.Injected - t.Revoked - t.ExpiresOnly - t.Unsupported - t.RevokeFailed
}

// Receipt reads it again, at any time until the task is forgotten.
func (s *Service) Receipt(ctx context.Context, c Caller, id policy.TaskID) (Receipt, error) {
	v, err := s.view(ctx, id)
	if v, err = s.readable(c, v, err); err != nil {
		return Receipt{}, err
	}
	return s.receipt(ctx, v.Task, Ending{Accepted: v.Task.EndedAt})
}

// Denials lists a task's denials after the one numbered after, and the number
// to go on from. With wait it waits for one as long as ctx allows.
func (s *Service) Denials(ctx context.Context, c Caller, id policy.TaskID, after int, wait bool) ([]audit.Denial, int, error) {
	v, err := s.view(ctx, id)
	if _, err = s.readable(c, v, err); err != nil {
		return nil, 0, err
	}
	return s.audit.Denials(ctx, id, after, wait)
}

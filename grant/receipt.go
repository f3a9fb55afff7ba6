package grant

import (
	"context"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// Receipt is what a task did, given when it ends.
type Receipt struct {
	Task   policy.Task
	Ending Ending
	Grants []policy.Grant
	Tally  audit.Tally
}

// receipt gathers it. Its numbers are those of this process's record.
func (s *Service) receipt(ctx context.Context, t policy.Task, e Ending) (Receipt, error) {
	r := Receipt{Task: t, Ending: e}
	v, err := s.settled(ctx, t.ID, func(v *policy.TaskView) bool { return v == nil || v.Task.State == policy.Ended })
	if err != nil || v == nil {
		v = s.index.Task(t.ID)
	}
	now := s.store.Now()
	if v != nil {
		for _, h := range v.Held {
			r.Grants = append(r.Grants, effective(h, now))
		}
	}
	r.Tally = s.audit.Tally(t.ID)
	return r, nil
}

// Receipt reads it again, at any time until the task is forgotten.
func (s *Service) Receipt(ctx context.Context, c Caller, id policy.TaskID) (Receipt, error) {
	v, err := s.view(ctx, id)
	if v, err = readable(c, v, err); err != nil {
		return Receipt{}, err
	}
	return s.receipt(ctx, v.Task, Ending{Accepted: v.Task.EndedAt})
}

// Denials lists a task's denials after the one numbered after, and the number
// to go on from. With wait it waits for one as long as ctx allows.
func (s *Service) Denials(ctx context.Context, c Caller, id policy.TaskID, after int, wait bool) ([]audit.Denial, int, error) {
	v, err := s.view(ctx, id)
	if _, err = readable(c, v, err); err != nil {
		return nil, 0, err
	}
	return s.audit.Denials(ctx, id, after, wait)
}

package grant

import (
	"cmp"
	"slices"

	"github.com/exeat-dev/exeat/policy"
)

// MaxListed bounds what one listing gives.
const MaxListed = 1000

// GrantFilter says which grants are listed.
type GrantFilter struct {
	Agent string        // any when empty
	Task  policy.TaskID // any when empty
	Ended bool          // those that ended too, as long as they are kept
}

// Grants lists grants that the caller may see, the latest first, at most
// MaxListed; more says whether there are others.
func (s *Service) Grants(c Caller, f GrantFilter) (list []policy.Grant, more bool) {
	now := s.store.Now()
	s.eachSeen(c, func(v *policy.TaskView) {
		if f.Agent != "" && v.Task.Agent != f.Agent || f.Task != "" && v.Task.ID != f.Task {
			return
		}
		for _, h := range v.Held {
			g := effective(h, now)
			if f.Ended || g.State != policy.Ended && !v.Task.Over(now) {
				list = append(list, g)
			}
		}
	})
	slices.SortFunc(list, func(a, b policy.Grant) int { return cmp.Compare(b.ID, a.ID) })
	if more = len(list) > MaxListed; more {
		list = list[:MaxListed]
	}
	return list, more
}

// eachSeen visits the tasks that the caller may see.
func (s *Service) eachSeen(c Caller, fn func(*policy.TaskView)) {
	if c.Agent != nil {
		for _, v := range s.index.Instance(c.Instance) {
			if c.maySee(v.Task, nil) {
				fn(v)
			}
		}
		return
	}
	s.index.EachTask(func(v *policy.TaskView) bool {
		if c.maySee(v.Task, s.ownerOf(v.Task.Agent)) {
			fn(v)
		}
		return true
	})
}

package grant

import (
	"context"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// Names of Exeat's own parts in the record.
const (
	bySweeper = "exeat/sweeper"
	byService = "exeat/grants"
)

// recordTask puts a change of a task on record. It never waits.
func (s *Service) recordTask(ctx context.Context, t policy.Task, from policy.State, rev int64, by, why string) {
	s.audit.Transition(ctx, audit.Transition{
		Time: timeOf(t.Life), From: from, To: t.State, Until: t.Until, End: t.End, By: by, Why: why, Store: rev,
		Subject: audit.Subject{Agent: t.Agent, Owner: s.ownerOf(t.Agent), Instance: t.Instance, Task: t.ID},
	})
}

// recordGrant puts a change of a grant on record. It never waits.
func (s *Service) recordGrant(ctx context.Context, g policy.Grant, from policy.State, rev int64, by, why string) {
	s.audit.Transition(ctx, audit.Transition{
		Time: timeOf(g.Life), Subject: audit.SubjectOf(&g), From: from, To: g.State, Until: g.Until, End: g.End,
		By: by, Why: why, Digest: g.Digest, Catalog: g.Catalog, Store: rev,
	})
}

func (s *Service) ownerOf(agent string) []string {
	if cat := s.index.Catalog(); cat != nil {
		if a, ok := cat.Agent(agent); ok {
			return a.OwnerGroups
		}
	}
	return nil
}

package grant

import (
	"context"
	"errors"
	"strings"

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

// recordRefusal puts a request on record that the catalog does not permit. Its
// grant has an ID, so that it can be spoken of, and never was more than that.
func (s *Service) recordRefusal(ctx context.Context, cat *policy.Catalog, t policy.Task, r Request, err error, by string) {
	var refused *policy.RequestError
	if !errors.As(err, &refused) {
		return
	}
	subject := audit.Subject{Agent: t.Agent, Owner: s.ownerOf(t.Agent), Instance: t.Instance, Task: t.ID, Grant: policy.GrantID(newID("g_"))}
	if c, ok := cat.Capability(r.Capability); ok { // any other name is only the caller's
		subject.Capability, subject.Destination = c.Name, c.Destination.Name
	}
	s.audit.Transition(ctx, audit.Transition{
		Time: s.store.Now(), Subject: subject, From: policy.StateNone, To: policy.Ended, End: policy.EndRefused,
		By: by, Why: whyRefused(refused), Catalog: cat.Revision(),
	})
}

// whyRefused is the code, and of a policy's refusal what the policy said.
func whyRefused(e *policy.RequestError) string {
	if e.Code != policy.CodePolicyDenied {
		return e.Code
	}
	const most = 1024
	words := e.Code + ": " + e.Message
	return strings.ToValidUTF8(words[:min(len(words), most)], "")
}

func (s *Service) ownerOf(agent string) []string {
	if cat := s.index.Catalog(); cat != nil {
		if a, ok := cat.Agent(agent); ok {
			return a.OwnerGroups
		}
	}
	return nil
}

package grant

import (
	"context"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// judge asks exeat.issue about a request that the catalog permits, and gives
// how long the grant may last. A refusal is a *policy.RequestError.
func (s *Service) judge(ctx context.Context, cat *policy.Catalog, v *policy.TaskView, a policy.Ask, h *history) (time.Duration, error) {
	if !cat.Policies().HasIssue() {
		return a.TTL, nil
	}
	now := s.store.Now()
	var err error
	if a.History, err = s.historyOf(ctx, cat, v, a, h, now); err != nil {
		return 0, err
	}
	got := cat.Judge(ctx, a, now)
	switch {
	case ctx.Err() != nil: // nobody waits for it: not a refusal to put on record
		return 0, ctx.Err()
	case !got.Allowed:
		return 0, policyDenied(got.Rule, got.Messages...)
	case got.Approval != nil:
		return 0, policyDenied("exeat.issue.approval", "the policy demands approval by people, which this version cannot ask for")
	case got.MaxUses > 0:
		return 0, policyDenied("exeat.issue.maxUses", "the policy bounds the uses, which this version cannot count")
	case got.TTL > 0:
		return min(a.TTL, got.TTL), nil
	}
	return a.TTL, nil
}

// policyDenied is a refusal by policy: its rule and what the rule says.
func policyDenied(rule string, messages ...string) error {
	return &policy.RequestError{Code: policy.CodePolicyDenied, Message: rule + ": " + strings.Join(messages, "; ")}
}

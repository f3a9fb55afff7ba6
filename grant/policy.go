package grant

import (
	"cmp"
	"context"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/policy/rego"
)

// judge asks exeat.issue about a proposal that the catalog permits, and narrows
// it by what comes back: a policy only ever takes away or asks people. A
// refusal is a *policy.RequestError.
func (s *Service) judge(ctx context.Context, cat *policy.Catalog, v *policy.TaskView, a policy.Ask, p *proposal, h *history) error {
	if !cat.Policies().HasIssue() {
		return nil
	}
	now := s.store.Now()
	var err error
	if a.History, err = s.historyOf(ctx, cat, v, a, h, now); err != nil {
		return err
	}
	got := cat.Judge(ctx, a, now)
	switch {
	case ctx.Err() != nil: // nobody waits for it: not a refusal to put on record
		return ctx.Err()
	case !got.Allowed:
		return policyDenied(got.Rule, got.Messages...)
	case got.TTL > 0 && got.TTL < minTTL:
		return policyDenied("exeat.issue.ttl", "the policy leaves it less than "+minTTL.String())
	case got.TTL > 0:
		p.ttl = min(p.ttl, got.TTL)
	}
	p.grant.MaxUses = fewer(p.grant.MaxUses, got.MaxUses)
	if got.Approval != nil {
		p.rule = p.rule.Join(demanded(got.Approval))
		p.why = append(p.why, "The policy exeat.issue asks for it.")
	}
	return nil
}

// fewer is the lower of two numbers of uses, of which 0 is any number.
func fewer(a, b int64) int64 {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

// demandWait is how long a request waits for people that only a policy asks for.
const demandWait = 30 * time.Minute

// demanded is a policy's demand as a rule.
func demanded(a *rego.Approval) *policy.ApprovalRule {
	r := &policy.ApprovalRule{Count: a.Count, ExpiresAfter: demandWait}
	if len(a.Groups) > 0 {
		r.Groups = [][]string{a.Groups}
	}
	if a.MaxAge > 0 || a.ACR != "" {
		// How is said without how recently: then any time that a catalog may say.
		r.StepUp = &policy.StepUp{MaxAge: cmp.Or(a.MaxAge, policy.MaxStepUpAge), ACR: a.ACR}
	}
	return r
}

// policyDenied is a refusal by policy: its rule and what the rule says.
func policyDenied(rule string, messages ...string) error {
	return &policy.RequestError{Code: policy.CodePolicyDenied, Message: rule + ": " + strings.Join(messages, "; ")}
}

package rego

import (
	"context"
	"encoding/json"
	"slices"
	"time"
)

// issueOutputs are the rules that make up exeat.issue's result, and whether
// each must be a set.
var issueOutputs = map[string]bool{"allow": false, "deny": true, "ttl": false, "maxUses": false, "approval": false}

// Issued is the answer of exeat.issue to one request. The zero Issued denies.
type Issued struct {
	Verdict
	// TTL and MaxUses that the grant must not exceed; 0: as it would be.
	TTL     time.Duration
	MaxUses int64
	// Approval that is demanded besides the capability's own; may be nil.
	Approval *Approval
}

// Approval says who must approve.
type Approval struct {
	Count  int      // distinct people
	Groups []string // each of them in one of these; none: whoever may approve
	// MaxAge is how long ago a person may have signed in, ACR how (OpenID
	// Connect Core section 2); zero: no step-up.
	MaxAge time.Duration
	ACR    string
}

// Issue asks exeat.issue about a request. Without that package it has no say,
// and the zero-valued bounds come back with Allowed.
func (e *Engine) Issue(ctx context.Context, in IssueInput) Issued {
	if !e.HasIssue() {
		return Issued{Verdict: Verdict{Allowed: true}}
	}
	out, err := e.issue.query.run(ctx, in.value())
	if err != nil {
		return Issued{Verdict: e.issue.fault(err)}
	}
	return e.issue.issued(out)
}

// issued reads all outputs. One that cannot be read denies: the policy meant
// to hold the grant back by it.
func (e *entry) issued(out outputs) Issued {
	v := e.verdict(out)
	if !v.Allowed {
		return Issued{Verdict: v}
	}
	got := Issued{Verdict: v}
	for _, output := range []struct {
		name string
		read func(any) bool
		want string
	}{
		{"ttl", got.lowerTTL, `a duration above zero, such as "5m"`},
		{"maxUses", got.lowerUses, "a whole number above zero"},
		{"approval", got.demand, `an object such as {"count": 2, "groups": ["leads"], "stepUp": {"maxAge": "5m"}}`},
	} {
		for _, value := range each(out[output.name]) {
			if !output.read(value) {
				return Issued{Verdict: Verdict{Rule: e.pkg + "." + output.name, Messages: []string{output.name + " is not " + output.want}}}
			}
		}
	}
	if got.Approval != nil && got.Approval.Count == 0 { // two demands that no person meets
		return Issued{Verdict: Verdict{Rule: e.pkg + ".approval", Messages: []string{"no group is in every demand for approval"}}}
	}
	return got
}

// each gives the members of a set, or the one value of what is none.
func each(values []any) []any {
	if len(values) == 1 {
		if members, ok := values[0].([]any); ok {
			return members
		}
	}
	return values
}

// lowerTTL takes in a bound: of several the lowest holds.
func (i *Issued) lowerTTL(value any) bool {
	d, ok := duration(value)
	if ok && (i.TTL == 0 || d < i.TTL) {
		i.TTL = d
	}
	return ok
}

func (i *Issued) lowerUses(value any) bool {
	n, ok := integer(value)
	if !ok || n < 1 {
		return false
	}
	if i.MaxUses == 0 || n < i.MaxUses {
		i.MaxUses = n
	}
	return true
}

// demand takes in an approval. Several are met together: by as many people as
// the highest asks for, each of them in a group of every one.
func (i *Issued) demand(value any) bool {
	a, ok := approval(value)
	if !ok {
		return false
	}
	if i.Approval == nil {
		i.Approval = &a
		return true
	}
	both := i.Approval
	switch {
	case both.ACR != "" && a.ACR != "" && both.ACR != a.ACR:
		return false
	case len(both.Groups) == 0:
		both.Groups = a.Groups
	case len(a.Groups) > 0:
		if both.Groups = common(both.Groups, a.Groups); len(both.Groups) == 0 {
			both.Count, a.Count = 0, 0
		}
	}
	if both.Count > 0 {
		both.Count = max(both.Count, a.Count)
	}
	if both.MaxAge == 0 || a.MaxAge > 0 && a.MaxAge < both.MaxAge {
		both.MaxAge = a.MaxAge
	}
	if both.ACR == "" {
		both.ACR = a.ACR
	}
	return true
}

func common(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return !slices.Contains(b, s) })
}

// Bounds on a demanded approval.
const (
	maxApprovers = 16
	maxGroups    = 32
)

// approval reads a demand strictly: what is not known may be a condition.
func approval(value any) (a Approval, ok bool) {
	object, ok := value.(map[string]any)
	if !ok {
		return a, false
	}
	a.Count = 1
	for name, v := range object {
		switch name {
		case "count":
			n, isInt := integer(v)
			a.Count, ok = int(n), isInt && n >= 1 && n <= maxApprovers
		case "groups":
			a.Groups, ok = names(v)
		case "stepUp":
			a.MaxAge, a.ACR, ok = stepUp(v)
		default:
			ok = false
		}
		if !ok {
			return Approval{}, false
		}
	}
	return a, true
}

func stepUp(value any) (maxAge time.Duration, acr string, ok bool) {
	object, ok := value.(map[string]any)
	if !ok || len(object) == 0 {
		return 0, "", false
	}
	for name, v := range object {
		switch name {
		case "maxAge":
			maxAge, ok = duration(v)
		case "acr":
			acr, ok = v.(string)
			ok = ok && acr != ""
		default:
			ok = false
		}
		if !ok {
			return 0, "", false
		}
	}
	return maxAge, acr, true
}

func names(value any) ([]string, bool) {
	members, ok := value.([]any)
	if !ok || len(members) == 0 || len(members) > maxGroups {
		return nil, false
	}
	out := make([]string, len(members))
	for i, m := range members {
		if out[i], ok = m.(string); !ok || out[i] == "" {
			return nil, false
		}
	}
	return out, true
}

// duration reads Go's form of a duration, as the catalog's fields have it.
func duration(value any) (time.Duration, bool) {
	text, ok := value.(string)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil && d > 0
}

func integer(value any) (int64, bool) {
	n, ok := value.(json.Number)
	if !ok {
		return 0, false
	}
	i, err := n.Int64()
	return i, err == nil
}

package policy

import (
	"slices"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// Verb names something that people may do.
type Verb = v1alpha1.Verb

// The verbs. The empty verb is none of them and nobody may do it.
const (
	VerbView    = v1alpha1.VerbView
	VerbApprove = v1alpha1.VerbApprove
	VerbRevoke  = v1alpha1.VerbRevoke
	VerbSuspend = v1alpha1.VerbSuspend
	VerbResume  = v1alpha1.VerbResume
	VerbAudit   = v1alpha1.VerbAudit
)

// Verbs lists all verbs.
func Verbs() []Verb {
	return []Verb{VerbView, VerbApprove, VerbRevoke, VerbSuspend, VerbResume, VerbAudit}
}

// Issuer is an OpenID Connect provider that an Access names.
type Issuer struct {
	URL, ClientID string
	GroupsClaim   string
	Scopes        []string
}

// access is a compiled Access.
type access struct {
	issuer Issuer
	rules  []v1alpha1.AccessRule
}

// Issuers lists the providers whose tokens are taken, each client once, in
// order of the Access objects' names.
func (c *Catalog) Issuers() []Issuer {
	if c == nil {
		return nil
	}
	var list []Issuer
	for _, a := range c.access {
		if !slices.ContainsFunc(list, a.issuer.same) {
			list = append(list, a.issuer)
		}
	}
	return list
}

func (i Issuer) same(o Issuer) bool { return i.URL == o.URL && i.ClientID == o.ClientID }

// Rights is what one person may do under one catalog. The zero Rights is nothing.
type Rights struct {
	groups []string
	rules  []v1alpha1.AccessRule // those whose groups the person is in
}

// Rights gives what a person may do whom this client of this issuer vouches for.
func (c *Catalog) Rights(issuer, clientID string, groups []string) Rights {
	if c == nil || issuer == "" || clientID == "" {
		return Rights{}
	}
	r := Rights{}
	for _, a := range c.access {
		if a.issuer.URL != issuer || a.issuer.ClientID != clientID {
			continue
		}
		r.groups = slices.Clone(groups)
		for _, rule := range a.rules {
			if intersects(rule.Groups, groups) {
				r.rules = append(r.rules, rule)
			}
		}
	}
	return r
}

// Owns reports whether the person is among the owners.
func (r Rights) Owns(owners []string) bool { return intersects(r.groups, owners) }

// Allow reports whether the person may do what verb says to an agent of these
// owners. Owners may always view and revoke what is their own, and may never
// resume it or approve for it: nobody lets their own agent go on.
func (r Rights) Allow(verb Verb, owners []string) bool {
	if r.Owns(owners) {
		switch verb {
		case VerbView, VerbRevoke:
			return true
		case VerbResume, VerbApprove:
			return false
		}
	}
	return slices.ContainsFunc(r.rules, func(rule v1alpha1.AccessRule) bool {
		return verb != "" && slices.Contains(rule.Verbs, verb) && (len(rule.Owners) == 0 || intersects(rule.Owners, owners))
	})
}

// Any reports whether there may be an agent to which the person may do it, so
// that it is worth looking.
func (r Rights) Any(verb Verb) bool {
	if (verb == VerbView || verb == VerbRevoke) && len(r.groups) > 0 {
		return true
	}
	return slices.ContainsFunc(r.rules, func(rule v1alpha1.AccessRule) bool { return verb != "" && slices.Contains(rule.Verbs, verb) })
}

// intersects reports whether the lists share an entry; an empty entry is none.
func intersects(a, b []string) bool {
	return slices.ContainsFunc(a, func(s string) bool { return s != "" && slices.Contains(b, s) })
}

package policy

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

const (
	defaultGroupsClaim = "groups"
	scopeOpenID        = "openid"
)

func (c *compiler) accessOf(in *v1alpha1.Access) {
	r := report{"Access", in.Name, c}
	s := &in.Spec
	a := &access{issuer: Issuer{URL: s.Issuer.URL, ClientID: s.Issuer.ClientID, GroupsClaim: s.Issuer.GroupsClaim, Scopes: slices.Clone(s.Issuer.Scopes)}}
	if a.issuer.GroupsClaim == "" {
		a.issuer.GroupsClaim = defaultGroupsClaim
	}
	if len(a.issuer.Scopes) == 0 {
		a.issuer.Scopes = []string{scopeOpenID}
	}
	r.issuer(&s.Issuer)
	if len(s.Rules) == 0 {
		r.add("spec.rules", "is empty, which lets nobody do anything; want rules with groups and verbs")
	}
	for i := range s.Rules {
		r.accessRule(fmt.Sprintf("spec.rules[%d]", i), &s.Rules[i])
	}
	a.rules = cloneRules(s.Rules)
	c.sameIssuer(r, a.issuer)
	c.cat.access = append(c.cat.access, a)
}

func cloneRules(rules []v1alpha1.AccessRule) []v1alpha1.AccessRule {
	out := make([]v1alpha1.AccessRule, len(rules))
	for i, rule := range rules {
		out[i] = v1alpha1.AccessRule{Groups: slices.Clone(rule.Groups), Verbs: slices.Clone(rule.Verbs), Owners: slices.Clone(rule.Owners)}
	}
	return out
}

// sameIssuer: one client of one issuer is read in one way, whichever object
// names it.
func (c *compiler) sameIssuer(r report, i Issuer) {
	for _, other := range c.cat.access {
		if other.issuer.same(i) && other.issuer.GroupsClaim != i.GroupsClaim {
			r.add("spec.issuer.groupsClaim", "another Access reads the groups of this issuer and client from %q; want one claim for both", other.issuer.GroupsClaim)
		}
	}
}

// issuer checks whom to believe. What is not TLS could be anybody, but on
// loopback there is nobody in between.
func (r report) issuer(i *v1alpha1.OIDCIssuer) {
	u, err := url.Parse(i.URL)
	switch {
	case i.URL == "":
		r.add("spec.issuer.url", "is missing; want the issuer's URL, such as https://login.example.org")
	case err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		r.add("spec.issuer.url", "is not an issuer's URL; want https://host/path without query and fragment")
	case u.Scheme == "http" && !loopbackName(u.Hostname()), u.Scheme != "https" && u.Scheme != "http":
		r.add("spec.issuer.url", "is not https; want https, or http on a loopback address such as 127.0.0.1")
	}
	r.printable("spec.issuer.url", i.URL)
	if strings.TrimSpace(i.ClientID) == "" {
		r.add("spec.issuer.clientID", "is missing; want the client ID that tokens are issued to")
	}
	r.printable("spec.issuer.clientID", i.ClientID)
	r.printable("spec.issuer.groupsClaim", i.GroupsClaim)
	for n, s := range i.Scopes {
		field := fmt.Sprintf("spec.issuer.scopes[%d]", n)
		if s == "" || strings.ContainsFunc(s, func(c rune) bool { return !scopeRune(c) }) {
			r.add(field, "is not a scope; want one scope without spaces, such as openid")
		}
	}
	if len(i.Scopes) > 0 && !slices.Contains(i.Scopes, scopeOpenID) {
		r.add("spec.issuer.scopes", "lacks openid, without which there is no ID token; add it")
	}
}

func loopbackName(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || host == "localhost"
}

func (r report) accessRule(field string, rule *v1alpha1.AccessRule) {
	r.groups(field+".groups", rule.Groups, "people")
	if len(rule.Verbs) == 0 {
		r.add(field+".verbs", "is empty, which allows nothing; want some of view, approve, revoke, suspend, resume and audit")
	}
	for i, v := range rule.Verbs {
		at := fmt.Sprintf("%s.verbs[%d]", field, i)
		switch {
		case !slices.Contains(Verbs(), v):
			r.add(at, "%q is not a verb; want view, approve, revoke, suspend, resume or audit", v)
		case slices.Index(rule.Verbs, v) < i:
			r.add(at, "%q stands twice; remove one", v)
		}
	}
	if rule.Owners != nil {
		r.groups(field+".owners", rule.Owners, "owners of agents")
	}
	for i, o := range rule.Owners {
		if strings.TrimSpace(o) != "" && !r.c.owned(o) {
			r.add(fmt.Sprintf("%s.owners[%d]", field, i), "no agent is owned by %q; want the owner group of an agent", o)
		}
	}
}

// groups checks a list that must name some groups.
func (r report) groups(field string, groups []string, of string) {
	if len(groups) == 0 {
		r.add(field, "is empty; want the groups of %s", of)
	}
	for i, g := range groups {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case strings.TrimSpace(g) == "":
			r.add(at, "is empty; want the name of a group")
		case slices.Index(groups, g) < i:
			r.add(at, "%q stands twice; remove one", g)
		default:
			r.printable(at, g)
		}
	}
}

// owned reports whether a group owns an agent of the set.
func (c *compiler) owned(group string) bool {
	return slices.ContainsFunc(c.set.Agents, func(a v1alpha1.Agent) bool { return slices.Contains(a.Spec.Owner.Groups, group) })
}

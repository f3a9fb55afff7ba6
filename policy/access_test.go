package policy

import (
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

const login = "https://login.example.org"

// people gives a catalog with an Access, or its problems.
func people(t *testing.T, change func(*v1alpha1.Access)) (*Catalog, []Problem) {
	t.Helper()
	a := v1alpha1.Access{Spec: v1alpha1.AccessSpec{
		Issuer: v1alpha1.OIDCIssuer{URL: login, ClientID: "exeat"},
		Rules: []v1alpha1.AccessRule{
			{Groups: []string{"leads"}, Verbs: []v1alpha1.Verb{VerbView, VerbApprove}, Owners: []string{"support"}},
			{Groups: []string{"sre"}, Verbs: []v1alpha1.Verb{VerbResume, VerbApprove, VerbAudit}},
		},
	}}
	a.Name = "people"
	if change != nil {
		change(&a)
	}
	agent := v1alpha1.Agent{Spec: v1alpha1.AgentSpec{
		SPIFFEID: "spiffe://example.org/agent/a", SidecarID: "spiffe://example.org/sidecar/a",
		Owner: v1alpha1.Owner{Groups: []string{"support"}},
	}}
	agent.Name = "a"
	return Compile(&v1alpha1.Set{Agents: []v1alpha1.Agent{agent}, Access: []v1alpha1.Access{a}})
}

func TestWhatPeopleMayDo(t *testing.T) {
	t.Parallel()
	cat, problems := people(t, nil)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for name, c := range map[string]struct {
		issuer, client string
		groups, owners []string
		may            []Verb
	}{
		"a rule gives its verbs for its owners":         {login, "exeat", []string{"leads"}, []string{"support"}, []Verb{VerbView, VerbApprove}},
		"and not for other owners":                      {login, "exeat", []string{"leads"}, []string{"docs"}, nil},
		"a rule without owners is about all agents":     {login, "exeat", []string{"sre"}, []string{"docs"}, []Verb{VerbApprove, VerbResume, VerbAudit}},
		"also about one that nobody owns any more":      {login, "exeat", []string{"sre"}, nil, []Verb{VerbApprove, VerbResume, VerbAudit}},
		"owners view and revoke without a rule":         {login, "exeat", []string{"support"}, []string{"support"}, []Verb{VerbView, VerbRevoke}},
		"owners never resume or approve, whatever rule": {login, "exeat", []string{"support", "sre"}, []string{"support"}, []Verb{VerbView, VerbRevoke, VerbAudit}},
		"no groups, nothing":                            {login, "exeat", nil, []string{"support"}, nil},
		"an empty group is none":                        {login, "exeat", []string{""}, []string{""}, nil},
		"another issuer, nothing":                       {"https://evil.example.org", "exeat", []string{"leads", "support"}, []string{"support"}, nil},
		"another client, nothing":                       {login, "other", []string{"leads", "support"}, []string{"support"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := cat.Rights(c.issuer, c.client, c.groups)
			for _, v := range append(Verbs(), "", "everything") {
				want := false
				for _, m := range c.may {
					want = want || m == v
				}
				if got := r.Allow(v, c.owners); got != want {
					t.Errorf("%q: %v, want %v", v, got, want)
				}
				if r.Allow(v, c.owners) && !r.Any(v) {
					t.Errorf("%q is allowed and would not be looked for", v)
				}
			}
		})
	}
	var none *Catalog
	if none.Rights(login, "exeat", []string{"sre"}).Allow(VerbAudit, nil) || none.Issuers() != nil {
		t.Error("without a catalog something is allowed")
	}
	if got := cat.Issuers(); len(got) != 1 || got[0].GroupsClaim != "groups" || got[0].Scopes[0] != "openid" {
		t.Errorf("got %+v", got)
	}
}

func TestABrokenAccessIsRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*v1alpha1.Access)
		want   string
	}{
		"no issuer":             {func(a *v1alpha1.Access) { a.Spec.Issuer.URL = "" }, "spec.issuer.url: is missing"},
		"plain HTTP":            {func(a *v1alpha1.Access) { a.Spec.Issuer.URL = "http://login.example.org" }, "spec.issuer.url: is not https"},
		"another scheme":        {func(a *v1alpha1.Access) { a.Spec.Issuer.URL = "ftp://login.example.org" }, "spec.issuer.url: is not https"},
		"a query":               {func(a *v1alpha1.Access) { a.Spec.Issuer.URL = login + "?x" }, "spec.issuer.url: is not an issuer's URL"},
		"a user":                {func(a *v1alpha1.Access) { a.Spec.Issuer.URL = "https://u:p@login.example.org" }, "spec.issuer.url: is not an issuer's URL"},
		"no client":             {func(a *v1alpha1.Access) { a.Spec.Issuer.ClientID = " " }, "spec.issuer.clientID: is missing"},
		"no rules":              {func(a *v1alpha1.Access) { a.Spec.Rules = nil }, "spec.rules: is empty"},
		"no groups":             {func(a *v1alpha1.Access) { a.Spec.Rules[0].Groups = nil }, "spec.rules[0].groups: is empty"},
		"an empty group":        {func(a *v1alpha1.Access) { a.Spec.Rules[0].Groups = []string{""} }, "spec.rules[0].groups[0]: is empty"},
		"no verbs":              {func(a *v1alpha1.Access) { a.Spec.Rules[0].Verbs = nil }, "spec.rules[0].verbs: is empty"},
		"a verb that is none":   {func(a *v1alpha1.Access) { a.Spec.Rules[0].Verbs[0] = "own" }, `spec.rules[0].verbs[0]: "own" is not a verb`},
		"an owner of nothing":   {func(a *v1alpha1.Access) { a.Spec.Rules[0].Owners = []string{"docs"} }, "spec.rules[0].owners[0]: no agent is owned by"},
		"an empty owners list":  {func(a *v1alpha1.Access) { a.Spec.Rules[0].Owners = []string{} }, "spec.rules[0].owners: is empty"},
		"scopes without openid": {func(a *v1alpha1.Access) { a.Spec.Issuer.Scopes = []string{"groups"} }, "spec.issuer.scopes: lacks openid"},
		"two scopes in one":     {func(a *v1alpha1.Access) { a.Spec.Issuer.Scopes = []string{"openid groups"} }, "spec.issuer.scopes[0]: is not a scope"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, problems := people(t, c.change)
			for _, p := range problems {
				if strings.HasPrefix(p.Field+": "+p.Message, c.want) {
					return
				}
			}
			t.Errorf("got %v, want %s", problems, c.want)
		})
	}
	if _, problems := people(t, func(a *v1alpha1.Access) { a.Spec.Issuer.URL = "http://127.0.0.1:8080" }); len(problems) > 0 {
		t.Errorf("an issuer on loopback: %v", problems)
	}
}

package policy

import (
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

func TestRequestIsResolvedOrSaysWhatWouldBeRight(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	ticket := func(project, ticket string) map[string]string {
		return map[string]string{"project": project, "ticket": ticket}
	}
	file := func(bucket, name string) map[string]string {
		return map[string]string{"bucket": bucket, "name": name, "reason": "audit"}
	}
	for _, tt := range []struct {
		why, agent, capability string
		params                 map[string]string
		code, field, says      string
	}{
		{"within pattern and narrowing", "triage", "read-ticket", ticket("OPS", "OPS-42"), "", "", ""},
		{"another agent is not narrowed", "browser", "read-ticket", ticket("DEV", "DEV-1"), "", "", ""},
		{"a capability without parameters", "browser", "browse", nil, "", "", ""},
		{"a host of the destination", "triage", "read-file", file("a", "notes"), "", "", ""},
		{"an agent that is not there", "nobody", "read-ticket", ticket("OPS", "OPS-1"), CodeNotEligible, "capability", ""},
		{"a capability that is not there", "triage", "delete-ticket", nil, CodeUnknownCapability, "capability", ""},
		{"a capability of others", "triage", "browse", nil, CodeNotEligible, "capability", ""},
		{"no parameters", "triage", "read-ticket", nil, CodeMissingParam, "params.project", "project, ticket"},
		{"one parameter short", "triage", "read-ticket", map[string]string{"project": "OPS"}, CodeMissingParam, "params.ticket", ""},
		{"one too many", "triage", "write-ticket", map[string]string{"ticket": "OPS-1", "s3cr3t": "x"}, CodeUnknownParam, "params", "ticket"},
		{"one for none", "browser", "browse", map[string]string{"s3cr3t": "x"}, CodeUnknownParam, "params", "has none"},
		{"outside the narrowing", "triage", "read-ticket", ticket("DEV", "DEV-1"), CodeParamNotAllowed, "params.project", `want one of "OPS", "SUP"`},
		{"outside the pattern", "triage", "read-ticket", ticket("OPS", "OPS-s3cr3t"), CodeParamNotAllowed, "params.ticket", "want ${project}-[0-9]+"},
		{"of another project", "triage", "read-ticket", ticket("OPS", "SUP-1"), CodeParamNotAllowed, "params.ticket", ""},
		{"longer than the pattern", "triage", "read-ticket", ticket("OPS", "OPS-1/comments"), CodeParamNotAllowed, "params.ticket", "slash"},
		{"with a line break at the end", "triage", "read-ticket", ticket("OPS", "OPS-1\n"), CodeParamNotAllowed, "params.ticket", "print"},
		{"an empty value", "triage", "read-ticket", ticket("", "-1"), CodeParamNotAllowed, "params.project", "is empty"},
		{"a value that is not UTF-8", "triage", "write-ticket", map[string]string{"ticket": "\xff"}, CodeParamNotAllowed, "params.ticket", "print"},
		{"a value of kilobytes", "triage", "write-ticket", map[string]string{"ticket": strings.Repeat("A", 600) + "-1"}, CodeParamNotAllowed, "params.ticket", "too long"},
		{"a host that is not the destination's", "triage", "read-file", file("c", "notes"), CodeParamNotAllowed, "params", "host of the destination"},
		{"a host name made of several", "triage", "read-file", file("a.b", "notes"), CodeParamNotAllowed, "params.bucket", ""},
		{"a host in capitals", "triage", "read-file", file("A", "notes"), CodeParamNotAllowed, "params.bucket", "host name"},
		{"a semicolon in a path", "triage", "read-file", file("a", "x;y"), CodeParamNotAllowed, "params.name", "segment of a path"},
		{"a percent sign in a path", "triage", "read-file", file("a", "%2e"), CodeParamNotAllowed, "params.name", "segment of a path"},
		{"a backslash in a path", "triage", "read-file", file("a", `..\..`), CodeParamNotAllowed, "params.name", "segment of a path"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			r, err := cat.Resolve(tt.agent, tt.capability, tt.params)
			if tt.code == "" {
				if err != nil || len(r.Digest) != 64 || !maps.Equal(r.Params, tt.params) {
					t.Fatalf("%+v, %v", r, err)
				}
				return
			}
			var re *RequestError
			if !errors.As(err, &re) || r != nil {
				t.Fatalf("%v, %v", r, err)
			}
			if re.Code != tt.code || re.Field != tt.field || !strings.Contains(re.Message, tt.says) {
				t.Errorf("%+v", re)
			}
			if strings.Contains(re.Error()+re.Field, "s3cr3t") {
				t.Errorf("holds a value: %+v", re)
			}
		})
	}
}

func TestScopeAndParametersAreFilledIn(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	params := map[string]string{"project": "OPS", "ticket": "OPS-42"}
	r, err := cat.Resolve("triage", "read-ticket", params)
	if err != nil {
		t.Fatal(err)
	}
	if !maps.Equal(r.Scope, map[string]string{"scope": "ticket:read", "ticket": "OPS-42"}) || r.Provider.Name != "jwt" {
		t.Errorf("%v %v", r.Scope, r.Provider)
	}
	params["ticket"] = "SUP-1"
	if r.Params["ticket"] != "OPS-42" {
		t.Error("the caller's map is shared")
	}
}

// A value is inserted as text wherever it goes.
func TestValuesAreQuoted(t *testing.T) {
	t.Parallel()
	cat := compileOne(t, `{
		"params": {"a": {"pattern": ".+"}, "b": {"pattern": "${a}x?"}, "c": {"pattern": ".+"}},
		"destination": "d",
		"calls": [{"method": "GET", "path": "/${b}", "query": {"q": "${c}+"}}]}`)
	for _, tt := range []struct {
		a, b, c string
		ok      bool
	}{
		{"a.c", "a.c", "q", true},
		{"a.c", "a.cx", "q", true},
		{"a.c", "abc", "q", false},
		{"a|b", "a", "q", false},
		{"(?i)a", "(?i)a", "q", true},
		{"a", "a", `\E.*`, true},
	} {
		r, err := cat.Resolve("agent", "cap", map[string]string{"a": tt.a, "b": tt.b, "c": tt.c})
		if (err == nil) != tt.ok {
			t.Errorf("%+v: %v", tt, err)
			continue
		}
		if err != nil {
			continue
		}
		c := Call{ok: true, Method: "GET", Scheme: "https", Host: "d.example", Port: 443, Segments: []string{tt.b}}
		for _, q := range []struct {
			value string
			want  Reason
		}{{tt.c, Allowed}, {tt.c + tt.c, Allowed}, {"anything", QueryNotGranted}, {"", QueryNotGranted}} {
			if c.Query = []QueryParam{{"q", q.value}}; r.Match(&c) != q.want {
				t.Errorf("%+v: q=%q is %v", tt, q.value, r.Match(&c))
			}
		}
	}
}

// compileOne compiles a catalog of one capability "cap" on d.example, for
// which "agent" is eligible.
func compileOne(t testing.TB, spec string) *Catalog {
	t.Helper()
	cat, problems := Compile(setOf(t, `{
		"destinations": [{"metadata": {"name": "d"}, "spec": {"hosts": ["d.example", "e.example"]}}],
		"providers": [{"metadata": {"name": "jwt"}, "spec": {"jwt": {"audience": "a"}}}],
		"capabilities": [{"metadata": {"name": "cap"}, "spec": `+spec+`}],
		"agents": [{"metadata": {"name": "agent"}, "spec": {"spiffeID": "spiffe://td/a", "sidecarID": "spiffe://td/s",
			"owner": {"groups": ["g"], "contact": ""}, "capabilities": [{"name": "cap"}]}}]}`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return cat
}

func TestAValueCannotAddAScope(t *testing.T) {
	t.Parallel()
	cat := compileOne(t, `{"params": {"x": {"pattern": ".+"}}, "destination": "d", "calls": [{"method": "GET", "path": "/"}],
		"credential": {"provider": "jwt", "scope": {"scope": "read:${x}"}}}`)
	for v, ok := range map[string]bool{"a": true, "a:b/c": true, "a admin": false, "a,admin": false, `a"`: false, `a\`: false, "ä": false} {
		if _, err := cat.Resolve("agent", "cap", map[string]string{"x": v}); (err == nil) != ok {
			t.Errorf("%q: %v", v, err)
		}
	}
}

func TestAValueCannotMakeADotSegment(t *testing.T) {
	t.Parallel()
	cat := compileOne(t, `{"params": {"x": {"pattern": ".+"}, "y": {"pattern": ".+"}}, "destination": "d", "calls": [{"method": "GET", "path": "/a/${x}${y}/b"}]}`)
	for _, v := range []struct {
		x, y string
		ok   bool
	}{{".", ".", false}, {".", "a", true}, {"a", "b", true}} {
		if _, err := cat.Resolve("agent", "cap", map[string]string{"x": v.x, "y": v.y}); (err == nil) != v.ok {
			t.Errorf("%+v: %v", v, err)
		}
	}
}

func TestLifetime(t *testing.T) {
	t.Parallel()
	p, _ := fixture(t).Capability("read-ticket")
	for asked, want := range map[time.Duration]time.Duration{0: 5 * time.Minute, time.Minute: time.Minute, 15 * time.Minute: 15 * time.Minute, time.Hour: 0, -1: 0} {
		got, err := p.Lifetime(asked)
		var re *RequestError
		if got != want || (err != nil) != (want == 0) || err != nil && (!errors.As(err, &re) || re.Field != "ttl") {
			t.Errorf("%v: %v, %v", asked, got, err)
		}
	}
}

// What a grant means is in its digest, and nothing else.
func TestDigest(t *testing.T) {
	t.Parallel()
	params := map[string]string{"project": "OPS", "ticket": "OPS-42"}
	digest := func(change func(*v1alpha1.Set)) string {
		set := fixtureSet(t)
		if change != nil {
			change(set)
		}
		cat, problems := Compile(set)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		r, err := cat.Resolve("triage", "read-ticket", params)
		if err != nil {
			t.Fatal(err)
		}
		return r.Digest
	}
	first := digest(nil)
	read := func(fn func(*v1alpha1.CapabilitySpec)) func(*v1alpha1.Set) { return capa(0, fn) }
	for why, change := range map[string]func(*v1alpha1.Set){
		"nothing at all":           nil,
		"a description":            read(func(c *v1alpha1.CapabilitySpec) { c.Description = "x" }),
		"another capability":       capa(1, func(c *v1alpha1.CapabilitySpec) { c.Calls[0].Path = "/${ticket}" }),
		"the owner":                agent0(func(a *v1alpha1.AgentSpec) { a.Owner.Groups = []string{"x"} }),
		"the agent's other values": narrow(0, "project", "OPS"),
		"a wider pattern":          read(func(c *v1alpha1.CapabilitySpec) { c.Params["project"] = v1alpha1.Param{Pattern: "[A-Z]+"} }),
		"the order of hosts":       dest(func(d *v1alpha1.DestinationSpec) { d.Hosts[0], d.Hosts[1] = d.Hosts[1], d.Hosts[0] }),
		"placeholders":             env("KEY", "x"),
	} {
		if digest(change) != first {
			t.Errorf("%s changes the digest", why)
		}
	}
	seen := map[string]string{first: "the original"}
	for why, change := range map[string]func(*v1alpha1.Set){
		"a path":    read(func(c *v1alpha1.CapabilitySpec) { c.Calls[0].Path = "/v2/tickets/${ticket}" }),
		"a method":  read(func(c *v1alpha1.CapabilitySpec) { c.Calls[0].Method = "PUT" }),
		"a star":    read(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Path = "/v1/tickets/${ticket}/*" }),
		"two stars": read(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Path = "/v1/tickets/${ticket}/**" }),
		"a query":   read(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Query.Params["page"] = "[0-9]" }),
		"any query": read(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Query = &v1alpha1.QueryRule{Any: true} }),
		"a body":    read(func(c *v1alpha1.CapabilitySpec) { c.Calls[1].Body = &v1alpha1.BodyRule{Any: true} }),
		"a rule more": read(func(c *v1alpha1.CapabilitySpec) {
			c.Calls = append(c.Calls, v1alpha1.CallRule{Method: "GET", Path: "/"})
		}),
		"a host rule":     read(func(c *v1alpha1.CapabilitySpec) { c.Calls[0].Host = "tickets.example.org" }),
		"the scope":       read(func(c *v1alpha1.CapabilitySpec) { c.Credential.Scope["scope"] = "ticket:all" }),
		"no credential":   read(func(c *v1alpha1.CapabilitySpec) { c.Credential = nil }),
		"the audience":    prov(0, func(p *v1alpha1.ProviderSpec) { p.JWT.Audience = "x" }),
		"the TTL":         read(func(c *v1alpha1.CapabilitySpec) { c.Limits.TTL.Duration = time.Minute }),
		"the longest TTL": read(func(c *v1alpha1.CapabilitySpec) { c.Limits.MaxTTL.Duration = time.Hour }),
		"the risk":        read(func(c *v1alpha1.CapabilitySpec) { c.Risk = v1alpha1.RiskMedium }),
		"sensitivity":     read(func(c *v1alpha1.CapabilitySpec) { c.Sensitivity = v1alpha1.SensitivityPublic }),
		"a host":          addHost("more.example.org"),
		"the port":        dest(func(d *v1alpha1.DestinationSpec) { d.Port = 444 }),
		"an address":      addAddress("10.0.0.9"),
		"whom to trust":   ca("ca.pem", certificate(t)),
		"a header":        addHeader("X-More"),
	} {
		d := digest(change)
		if other, ok := seen[d]; ok {
			t.Errorf("%s has the digest of %s", why, other)
		}
		seen[d] = why
	}
}

func TestDigestTellsAStarFromItsSign(t *testing.T) {
	t.Parallel()
	form := func(path string, params string, values map[string]string) string {
		cat := compileOne(t, `{"params": {`+params+`}, "destination": "d", "calls": [{"method": "GET", "path": "`+path+`"}]}`)
		r, err := cat.Resolve("agent", "cap", values)
		if err != nil {
			t.Fatal(err)
		}
		r.Params = nil
		d, err := r.digest()
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if form("/*", "", nil) == form("/${x}", `"x": {"pattern": ".+"}`, map[string]string{"x": "*"}) {
		t.Error("any segment and the segment * are one digest")
	}
}

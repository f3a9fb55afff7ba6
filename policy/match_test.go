package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

func TestPathRules(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ rule, yes, no string }{
		{"/", "/", "/a"},
		{"/v1", "/v1", "/ /v1/ /v1/a /V1 /v"},
		{"/v1/", "/v1/", "/v1 /v1/a"},
		{"/v1/*", "/v1/a /v1/.a", "/v1 /v1/ /v1/a/b"},
		{"/*/x", "/a/x", "/x /a/b/x /a/y"},
		{"/v1/**", "/v1/a /v1/a/b /v1/", "/v1 /v2/a"},
		{"/**", "/ /a /a/b", ""},
		{"/*/**", "/a/b /a/", "/ /a"},
		{"/a b", "/a%20b", "/a+b /ab"},
		{"/é:@!", "/%C3%A9:@! /%c3%a9%3A%40%21", "/e"},
		{"/$x", "/$x /%24x", "/x"},
	} {
		r := oneRule(t, v1alpha1.CallRule{Method: "GET", Path: tt.rule})
		for path := range strings.FieldsSeq(tt.yes) {
			if got := r.Match(call(t, "GET", "https://d.example"+path)); got != Allowed {
				t.Errorf("%s does not cover %s: %v", tt.rule, path, got)
			}
		}
		for path := range strings.FieldsSeq(tt.no) {
			if got := r.Match(call(t, "GET", "https://d.example"+path)); got != CallNotGranted {
				t.Errorf("%s covers %s: %v", tt.rule, path, got)
			}
		}
	}
}

// oneRule is a grant of one rule without parameters.
func oneRule(t fataler, rules ...v1alpha1.CallRule) *Resolved {
	set := &v1alpha1.Set{Destinations: make([]v1alpha1.Destination, 1), Capabilities: make([]v1alpha1.Capability, 1), Agents: make([]v1alpha1.Agent, 1)}
	d, p, a := &set.Destinations[0], &set.Capabilities[0], &set.Agents[0]
	d.Name, d.Spec.Hosts = "d", []string{"d.example", "e.example"}
	p.Name, p.Spec.Destination, p.Spec.Calls = "cap", "d", rules
	a.Name, a.Spec.SPIFFEID, a.Spec.SidecarID, a.Spec.Owner.Groups = "agent", "spiffe://td/a", "spiffe://td/s", []string{"g"}
	a.Spec.Capabilities = []v1alpha1.AgentCapability{{Name: "cap"}}
	cat, problems := Compile(set)
	if len(problems) > 0 {
		t.Fatalf("%q", problems)
	}
	r, err := cat.Resolve("agent", "cap", nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return r
}

func TestQueryRules(t *testing.T) {
	t.Parallel()
	list := &v1alpha1.QueryRule{Params: map[string]string{"page": "[0-9]+", "sort": "asc|desc", "exact": "yes", "any": ".*", "A": "a"}}
	for _, tt := range []struct {
		rule  *v1alpha1.QueryRule
		query string
		want  Reason
	}{
		{list, "", Allowed}, {list, "?", Allowed}, {list, "?page=1", Allowed}, {list, "?sort=desc&page=10", Allowed},
		{list, "?page=1&page=1", QueryNotGranted}, {list, "?page=1&other=1", QueryNotGranted}, {list, "?page=-1", QueryNotGranted},
		{list, "?Page=1", QueryNotGranted}, {list, "?sort=ascx", QueryNotGranted}, {list, "?sort=xdesc", QueryNotGranted},
		{list, "?exact=yes", Allowed}, {list, "?exact=yess", QueryNotGranted}, {list, "?exact", QueryNotGranted},
		{list, "?any", Allowed}, {list, "?any=", Allowed}, {list, "?%70age=1", Allowed}, {list, "?a=a", QueryNotGranted},
		{nil, "?page=1", QueryNotGranted}, {&v1alpha1.QueryRule{}, "?page=1", QueryNotGranted},
		{&v1alpha1.QueryRule{Any: true}, "?page=1&page=2&x", Allowed},
	} {
		r := oneRule(t, v1alpha1.CallRule{Method: "GET", Path: "/", Query: tt.rule})
		if got := r.Match(call(t, "GET", "https://d.example/"+tt.query)); got != tt.want {
			t.Errorf("%+v, %s: %v, want %v", tt.rule, tt.query, got, tt.want)
		}
	}
}

func TestHostAndBodyRules(t *testing.T) {
	t.Parallel()
	r := oneRule(t, v1alpha1.CallRule{Method: "POST", Path: "/", Host: "d.example"},
		v1alpha1.CallRule{Method: "PUT", Path: "/", Body: &v1alpha1.BodyRule{Any: true}})
	body := func(c *Call) *Call { c.HasBody = true; return c }
	for _, tt := range []struct {
		call *Call
		want Reason
	}{
		{body(call(t, "PUT", "https://e.example/")), Allowed},
		{call(t, "PUT", "https://e.example/"), Allowed},
		{call(t, "POST", "https://d.example/"), BodyNotGranted},
		{call(t, "POST", "https://e.example/"), CallNotGranted},
	} {
		if got := r.Match(tt.call); got != tt.want {
			t.Errorf("%s %s: %v, want %v", tt.call.Method, tt.call.URL(), got, tt.want)
		}
	}
}

func genRule(t *rapid.T) v1alpha1.CallRule {
	pick := func(label string, from ...string) string { return rapid.SampledFrom(from).Draw(t, label) }
	r := v1alpha1.CallRule{Method: pick("method", "GET", "POST"), Host: pick("host", "", "d.example", "e.example")}
	n := rapid.IntRange(1, 4).Draw(t, "segments")
	for i := range n {
		seg := pick("segment", "a", "b", "*", "**", "")
		if seg == "**" && i < n-1 || seg == "" && i < n-1 {
			seg = "a"
		}
		r.Path += "/" + seg
	}
	switch pick("query", "none", "any", "list") {
	case "any":
		r.Query = &v1alpha1.QueryRule{Any: true}
	case "list":
		r.Query = &v1alpha1.QueryRule{Params: map[string]string{"x": pick("pattern", "[0-9]+", "1", ".*")}}
	}
	if rapid.Bool().Draw(t, "body") {
		r.Body = &v1alpha1.BodyRule{Any: true}
	}
	return r
}

// narrowed takes one thing away from a rule.
func narrowed(t *rapid.T, r v1alpha1.CallRule) v1alpha1.CallRule {
	switch rapid.IntRange(0, 5).Draw(t, "narrowing") {
	case 0:
		r.Host = or(r.Host, "d.example")
	case 1:
		r.Body = nil
	case 2:
		r.Query = nil
	case 3:
		if r.Query != nil && r.Query.Any {
			r.Query = &v1alpha1.QueryRule{Params: map[string]string{"x": "1"}}
		}
	case 4:
		r.Path = strings.Replace(r.Path, "/**", rapid.SampledFrom([]string{"/a", "/*", "/a/**", "/"}).Draw(t, "rest"), 1)
	case 5:
		if segs := strings.Split(r.Path, "/"); slices.Contains(segs, "*") {
			segs[slices.Index(segs, "*")] = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "one")
			r.Path = strings.Join(segs, "/")
		}
	}
	return r
}

func genCall(t *rapid.T) *Call {
	path := ""
	for range rapid.IntRange(1, 4).Draw(t, "depth") {
		path += "/" + rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "s")
	}
	url := fmt.Sprintf("https://%s%s%s", rapid.SampledFrom([]string{"d.example", "e.example"}).Draw(t, "h"), path,
		rapid.SampledFrom([]string{"", "/", "?x=1", "?x=2&x=1", "?x=a", "?y=1"}).Draw(t, "q"))
	c, err := parseURL(rapid.SampledFrom([]string{"GET", "POST"}).Draw(t, "m"), url)
	if err != nil {
		t.Fatal(err)
	}
	c.HasBody = rapid.Bool().Draw(t, "b")
	return &c
}

func TestANarrowerRuleNeverAllowsMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		wide := genRule(t)
		narrow := wide
		for range rapid.IntRange(1, 3).Draw(t, "steps") {
			narrow = narrowed(t, narrow)
		}
		w, n := oneRule(t, wide), oneRule(t, narrow)
		for range 20 {
			c := genCall(t)
			if n.Match(c) == Allowed && w.Match(c) != Allowed {
				t.Fatalf("%+v covers %s %s, %+v does not", narrow, c.Method, c.URL(), wide)
			}
		}
		if n.rules[0].width > w.rules[0].width {
			t.Fatalf("%+v counts as wider than %+v", narrow, wide)
		}
	})
}

// More rules never deny what fewer allow, and the other way round.
func TestARuleMoreOnlyAdds(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := genRule(t), genRule(t)
		one, other, both := oneRule(t, a), oneRule(t, b), oneRule(t, a, b)
		for range 10 {
			c := genCall(t)
			either := one.Match(c) == Allowed || other.Match(c) == Allowed
			if either != (both.Match(c) == Allowed) {
				t.Fatalf("%+v, %+v: %s %s", a, b, c.Method, c.URL())
			}
		}
	})
}

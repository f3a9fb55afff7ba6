package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// calls compiles the rules. One that can match nothing is a mistake that would
// otherwise show as a denial, long after.
func (p *capabilityCompiler) calls(rules []v1alpha1.CallRule) {
	if len(rules) == 0 {
		p.add("spec.calls", "is empty; want at least one call, such as {method: GET, path: /v1/status}")
	}
	for i := range rules {
		p.call(fmt.Sprintf("spec.calls[%d]", i), &rules[i])
	}
}

func (p *capabilityCompiler) call(at string, in *v1alpha1.CallRule) {
	r := &rule{method: in.Method}
	p.method(at+".method", in.Method)
	p.path(at+".path", in.Path, r)
	// What a rule does not mention stays at the narrowest: no query, no body.
	if in.Host != "" {
		p.host(at+".host", in.Host, r)
	}
	if in.Query != nil {
		p.query(at+".query", in.Query, r)
	}
	if in.Body != nil {
		if r.anyBody = in.Body.Any; !r.anyBody {
			p.add(at+".body", `means nothing; want "any", or leave it out to allow no body`)
		}
	}
	p.out.rules = append(p.out.rules, r)
}

func (p *capabilityCompiler) method(field, m string) {
	switch {
	case m == "":
		p.add(field, "is missing; want one method such as GET")
	case !isToken(m) || len(m) > maxMethod:
		p.add(field, "%q is not a method; want one such as GET", m)
	case m != strings.ToUpper(m): // legal (RFC 9110 section 9.1), and never meant
		p.add(field, "%q is not what a client sends, methods are case-sensitive; write %q", m, strings.ToUpper(m))
	case checkMethod(m) != nil:
		p.add(field, "%s is never granted; remove the rule", m)
	}
}

// path compiles a path. Each segment reads its parameters back by itself: a
// value never holds a slash.
func (p *capabilityCompiler) path(field, s string, r *rule) {
	parts, rest, fault := parsePathRule(s)
	if fault != "" {
		p.unread(field, "%s", fault)
		return
	}
	for i := range parts {
		t := parts[i].text
		if len(t.params()) == 0 || !p.refers(field, t, inPath) || !p.compiled(t) {
			continue
		}
		var err error
		if parts[i].from, err = inferFrom(t, p.loose, true); err != nil {
			p.add(field, "%v", err)
		}
	}
	r.path, r.rest = parts, rest
}

// host compiles a rule's host, which must be able to be one of the destination's.
func (p *capabilityCompiler) host(field, s string, r *rule) {
	t, err := parseTemplate(s)
	if err != nil {
		p.unread(field, "%v", err)
		return
	}
	if !p.refers(field, t, inHost) || !p.compiled(t) {
		return
	}
	r.host = t
	if r.hostFrom, err = inferFrom(t, p.loose, true); err != nil {
		p.add(field, "%v", err)
		return
	}
	if d := p.out.Destination; d != nil && !slices.ContainsFunc(d.Hosts, r.hostFrom.re.MatchString) {
		p.add(field, "%q is none of the hosts of Destination %q and can match nothing; want one of %s", s, d.Name, quoted(d.Hosts))
	}
}

// query compiles the patterns of the parameters that may be there. None of them
// must be: leaving one out asks for less.
func (p *capabilityCompiler) query(field string, in *v1alpha1.QueryRule, r *rule) {
	if r.anyQuery = in.Any; in.Any {
		if len(in.Params) > 0 {
			p.add(field, `is "any" and a list; want one of them`)
		}
		return
	}
	r.query, r.queryFrom = map[string]template{}, map[string]inference{}
	for _, name := range slices.Sorted(maps.Keys(in.Params)) {
		p.queryParam(field+"."+name, name, in.Params[name], r)
	}
}

func (p *capabilityCompiler) queryParam(field, name, pattern string, r *rule) {
	if name == "" {
		p.add(field, "has no name; want the name of a query parameter")
		return
	}
	if !p.printable(field, name) {
		p.blind = true
		return
	}
	t, err := parsePattern(pattern)
	if err != nil {
		p.unread(field, "%v", err)
		return
	}
	if !p.refers(field, t, inQuery) || !p.compiled(t) {
		return
	}
	loose, err := t.loosen(p.loose)
	if err == nil {
		_, err = compileSource(loose)
	}
	if err == nil && len(t.params()) > 0 {
		r.queryFrom[name], err = inferFrom(t, p.loose, false)
	}
	if err != nil {
		p.add(field, "%v; want an RE2 pattern", err)
		return
	}
	r.query[name] = t
}

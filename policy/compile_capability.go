package policy

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// defaultTTL of a grant whose capability names none.
const defaultTTL = 5 * time.Minute

// capabilityCompiler compiles one capability. It goes on after a problem, so
// that an author sees all of them; what is broken is left out of params and
// rules, and everything that would build on it is not looked at.
type capabilityCompiler struct {
	report
	out    *Capability
	params map[string]*param // those that are right
	loose  map[string]string // of each in params, see param.loose
	listed map[string]v1alpha1.Param
	used   map[string]usage
	// blind is set where a text could not be read: what it uses is not known.
	blind bool
}

// unread adds a problem for a text in which parameters may stand.
func (p *capabilityCompiler) unread(field, format string, args ...any) {
	p.blind = true
	p.add(field, format, args...)
}

func (c *compiler) capability(in *v1alpha1.Capability) {
	s := &in.Spec
	p := &capabilityCompiler{
		report: report{"Capability", in.Name, c}, listed: s.Params, params: map[string]*param{},
		loose: map[string]string{}, used: map[string]usage{},
		out: &Capability{Name: in.Name, Description: s.Description, Params: maps.Clone(s.Params), scope: map[string]template{}},
	}
	p.known("spec.destination", "Destination", s.Destination)
	p.out.Destination = c.cat.destinations[s.Destination]
	p.grades(s)
	p.limits(s.Limits)
	p.onCall(s)
	p.approval(s.Approval)
	p.uses(s.Limits)
	p.parameters()
	p.calls(s.Calls)
	p.credential(s.Credential)
	p.unused()
	c.cat.capabilities[in.Name] = p.out
}

// grades checks risk and sensitivity. What a grade demands and this version
// cannot give is refused: a floor is never dropped in silence.
func (p *capabilityCompiler) grades(s *v1alpha1.CapabilitySpec) {
	p.out.Risk, p.out.Sensitivity = s.Risk, s.Sensitivity
	switch s.Risk {
	case "":
		p.out.Risk = v1alpha1.RiskLow
	case v1alpha1.RiskLow, v1alpha1.RiskMedium, v1alpha1.RiskHigh:
	default:
		p.add("spec.risk", "%q is not a risk; want low, medium or high", s.Risk)
	}
	switch s.Sensitivity {
	case "":
		p.out.Sensitivity = v1alpha1.SensitivityInternal
	case v1alpha1.SensitivityPublic, v1alpha1.SensitivityInternal, v1alpha1.SensitivityConfidential:
	case v1alpha1.SensitivityRestricted:
		p.add("spec.sensitivity", "restricted data needs a response filter, which this version does not have; keep it out of the catalog")
	default:
		p.add("spec.sensitivity", "%q is not a sensitivity; want public, internal, confidential or restricted", s.Sensitivity)
	}
}

// onCall: what nobody asked for in so many words must be harmless.
func (p *capabilityCompiler) onCall(s *v1alpha1.CapabilitySpec) {
	p.out.OnCall = s.OnCall
	switch {
	case s.OnCall && p.out.Risk != v1alpha1.RiskLow:
		p.add("spec.onCall", "is for low risk only; leave it out, so that agents ask")
	case s.OnCall && s.Approval != nil:
		p.add("spec.onCall", "does not go with approval, which people give to a request that they have read; leave one out")
	}
}

// limits fills in the defaults: what an author does not say is short.
func (p *capabilityCompiler) limits(l v1alpha1.Limits) {
	p.out.TTL = defaultTTL
	if l.TTL != nil && p.duration("spec.limits.ttl", l.TTL.Duration) {
		p.out.TTL = l.TTL.Duration
	}
	if l.TTL == nil && l.MaxTTL != nil { // the default must not exceed what is allowed
		p.out.TTL = min(defaultTTL, l.MaxTTL.Duration)
	}
	p.out.MaxTTL = p.out.TTL
	if l.MaxTTL == nil || !p.duration("spec.limits.maxTTL", l.MaxTTL.Duration) {
		return
	}
	p.out.MaxTTL = l.MaxTTL.Duration
	if p.out.TTL > p.out.MaxTTL {
		p.add("spec.limits.ttl", "%v is longer than maxTTL %v; want at most that", p.out.TTL, p.out.MaxTTL)
	}
}

// parameters compiles the parameters, each after those that its pattern names.
func (p *capabilityCompiler) parameters() {
	parsed := map[string]template{}
	for _, name := range slices.Sorted(maps.Keys(p.listed)) {
		field := "spec.params." + name
		if !isParamName(name) {
			p.add(field, "%q is not a parameter name; want letters, digits, _ and -, a letter first", name)
			continue
		}
		t, err := parsePattern(p.listed[name].Pattern)
		if err != nil {
			p.unread(field+".pattern", "%v", err)
			continue
		}
		if p.refers(field+".pattern", t, inParam) {
			parsed[name] = t
		}
	}
	order := &dependencies{parsed: parsed, state: map[string]int{}}
	for _, name := range slices.Sorted(maps.Keys(parsed)) {
		if cycle := order.visit(name, nil); cycle != nil {
			p.add("spec.params."+name+".pattern", "depends on itself (%s); break the cycle", strings.Join(cycle, " -> "))
		}
	}
	for _, name := range order.sorted {
		p.parameter(name, parsed[name])
	}
}

// dependencies sorts parameters so that each comes after what it names.
type dependencies struct {
	parsed map[string]template
	state  map[string]int // 1 being visited, 2 sorted, 3 broken
	sorted []string
}

// visit gives the cycle that name is on, if this visit is the one to find it.
func (d *dependencies) visit(name string, path []string) (cycle []string) {
	path = append(path, name)
	switch d.state[name] {
	case 1:
		return path[slices.Index(path, name):]
	case 2, 3:
		return nil
	}
	t, good := d.parsed[name]
	d.state[name] = 1
	for _, dep := range t.params() {
		if c := d.visit(dep, path); c != nil && cycle == nil {
			cycle = c
		}
		good = good && d.state[dep] == 2
	}
	if d.state[name] = 3; good {
		d.state[name] = 2
		d.sorted = append(d.sorted, name)
	}
	return cycle
}

// parameter compiles one whose dependencies are compiled.
func (p *capabilityCompiler) parameter(name string, t template) {
	field := "spec.params." + name + ".pattern"
	// A pattern that compiles with the patterns of its parameters in it
	// compiles with their values, which are only text.
	loose, err := t.loosen(p.loose)
	if err != nil {
		p.add(field, "%v", err)
		return
	}
	m, err := compileSource(loose)
	if err != nil {
		p.add(field, "%v; want an RE2 pattern", err)
		return
	}
	out := &param{name: name, pattern: t, fixed: m, loose: loose}
	if len(t.params()) > 0 {
		if out.from, err = inferFrom(t, p.loose, false); err != nil {
			p.add(field, "%v", err)
			return
		}
	}
	p.loose[name], p.params[name] = loose, out
	p.out.params = append(p.out.params, out)
}

// refers notes the parameters of a template, and adds a problem for each that
// there is none of.
func (p *capabilityCompiler) refers(field string, t template, use usage) bool {
	ok := true
	for _, name := range t.params() {
		if _, there := p.listed[name]; !there {
			p.add(field, "there is no parameter %q; %s", name, oneOf(p.listed))
			ok = false
		}
		p.used[name] |= use // an unknown one as well: it is one mistake, not two
	}
	return ok
}

// compiled reports whether all parameters of a template are right; if not,
// that has been said.
func (p *capabilityCompiler) compiled(t template) bool {
	return !slices.ContainsFunc(t.params(), func(name string) bool { return p.params[name] == nil })
}

// unused: a parameter that changes nothing looks like a restriction and is none.
func (p *capabilityCompiler) unused() {
	for _, name := range slices.Sorted(maps.Keys(p.listed)) {
		if p.used[name] == 0 && isParamName(name) && !p.blind {
			p.add("spec.params."+name, "is used nowhere; use it in calls, scope or another parameter, or remove it")
		}
	}
	for _, q := range p.out.params {
		q.use = p.used[q.name]
	}
}

// credential checks what would be minted.
func (p *capabilityCompiler) credential(ref *v1alpha1.CredentialRef) {
	if ref == nil {
		return
	}
	// The entries first: they use parameters, whatever is wrong with the provider.
	for _, key := range slices.Sorted(maps.Keys(ref.Scope)) {
		p.scopeEntry(key, ref.Scope[key])
	}
	if !p.known("spec.credential.provider", "Provider", ref.Provider) {
		return
	}
	p.out.provider = p.c.cat.providers[ref.Provider]
	if p.out.provider == nil {
		return
	}
	if p.out.provider.Spec.Static != nil {
		p.injected(ref)
	}
	if p.out.provider.Spec.JWT != nil {
		p.minted(ref)
	}
}

// injected: a standing secret can do all that it can, for every grant.
func (p *capabilityCompiler) injected(ref *v1alpha1.CredentialRef) {
	if p.out.Risk == v1alpha1.RiskHigh {
		p.add("spec.credential.provider", "a static secret is refused for high risk; want a provider that mints, such as jwt")
	}
	if len(ref.Scope) > 0 {
		p.add("spec.credential.scope", "a static secret cannot be narrowed; remove the scope, or use a provider that mints, such as jwt")
	}
}

// minted: a token says what it is for, in claims that are not Exeat's own.
func (p *capabilityCompiler) minted(ref *v1alpha1.CredentialRef) {
	if len(ref.Scope) == 0 {
		p.add("spec.credential.scope", "is empty, and a token without a scope could be read as one for everything; want entries such as scope: tickets:read")
	}
	for _, key := range slices.Sorted(maps.Keys(ref.Scope)) {
		if _, reserved := reservedClaims[key]; reserved || strings.HasPrefix(key, "exeat") {
			p.add("spec.credential.scope."+key, "is a claim that Exeat sets itself; want another name")
		}
	}
}

// reservedClaims are those of RFC 7519, RFC 9068 and RFC 8693 that say who,
// for whom and how long, and Exeat's own.
var reservedClaims = nameSet("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "act", "may_act", "cnf", "azp",
	"auth_time", "grant", "task", "agent")

// scopeEntry compiles one entry. Values are inserted as they are, which is why
// usage.valueFault bounds what may be inserted in a scope.
func (p *capabilityCompiler) scopeEntry(key, value string) {
	field := "spec.credential.scope." + key
	if key == "" || !isToken(key) {
		p.add(field, "is not a name; want letters, digits, _ and -")
		return
	}
	if value == "" {
		p.add(field, "is empty, which some read as everything; want a value")
		return
	}
	if !p.printable(field, value) {
		p.blind = true
		return
	}
	t, err := parseTemplate(value)
	if err != nil {
		p.unread(field, "%v", err)
		return
	}
	if p.refers(field, t, inScope) {
		p.out.scope[key] = t
	}
}

package policy

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// instanceSuffix ends a sidecarID that gives each running sidecar its own.
const instanceSuffix = "/{instance}"

// identity is a SPIFFE ID that some agent or sidecar has; of a template it is
// what precedes the instance.
type identity struct {
	id       string
	template bool
	report   report
	field    string
}

// agent compiles one agent. Only what says "optional" makes its task optional.
func (c *compiler) agent(in *v1alpha1.Agent) {
	s := &in.Spec
	r := report{"Agent", in.Name, c}
	a := &Agent{
		Name: in.Name, SPIFFEID: s.SPIFFEID, SidecarID: s.SidecarID, OwnerGroups: slices.Clone(s.Owner.Groups),
		Contact: s.Owner.Contact, Environment: s.Environment,
	}
	if r.spiffeID("spec.spiffeID", s.SPIFFEID, false) {
		c.cat.bySPIFFEID[s.SPIFFEID] = a
	}
	base, template := strings.CutSuffix(s.SidecarID, instanceSuffix)
	if r.spiffeID("spec.sidecarID", base, template) {
		if template {
			c.cat.byTemplate[base] = a
		} else {
			c.cat.bySidecar[base] = a
		}
	}
	r.owner(&s.Owner)
	r.printable("spec.environment", s.Environment)
	r.binding(s.TaskBinding)
	for i := range s.Capabilities {
		r.eligible(a, fmt.Sprintf("spec.capabilities[%d]", i), &s.Capabilities[i])
	}
	slices.SortFunc(a.eligible, func(x, y Eligible) int { return cmp.Compare(x.Capability.Name, y.Capability.Name) })
	a.noteOnCall()
	c.cat.agents[a.Name] = a
}

// binding checks how calls name their task. A field that is accepted and does
// nothing would be a promise that nobody keeps.
func (r report) binding(b v1alpha1.TaskBinding) {
	switch b {
	case "", v1alpha1.TaskRequired:
	case v1alpha1.TaskOptional:
		r.add("spec.taskBinding", "calls without a task need a task of the instance's own, which this version does not have; want required")
	default:
		r.add("spec.taskBinding", "%q is not a binding; want required", b)
	}
}

// spiffeID checks an ID by the SPIFFE standard and notes that it is taken.
func (r report) spiffeID(field, s string, template bool) bool {
	id, err := spiffeid.FromString(s)
	switch {
	case s == "":
		r.add(field, "is missing; want a SPIFFE ID such as spiffe://example.org/agent/triage")
		return false
	case strings.Contains(s, "{"):
		r.add(field, "%q is not a SPIFFE ID; only a sidecarID may have a variable part, and it must end in %s", s, instanceSuffix)
		return false
	case err != nil:
		r.add(field, "%q is not a SPIFFE ID: %v; want one such as spiffe://example.org/agent/triage", s, err)
		return false
	case id.Path() == "":
		r.add(field, "%q is a whole trust domain; want an ID with a path", s)
		return false
	case id.Path() == "/exeat" || strings.HasPrefix(id.Path(), "/exeat/"):
		r.add(field, "%q is among Exeat's own, which begin with /exeat; want another path", s)
		return false
	case id.String() != s: // the trust domain in capitals is another spelling of one ID
		r.add(field, "%q is not in canonical form; write %q", s, id.String())
		return false
	}
	r.c.ids = append(r.c.ids, identity{s, template, r, field})
	return true
}

// identities: one SPIFFE ID is one party, else a sidecar could act as another
// agent's, or an agent as its own sidecar.
func (c *compiler) identities() {
	exact, templates := map[string]identity{}, map[string]identity{}
	for _, id := range c.ids {
		seen := exact
		if id.template {
			seen = templates
		}
		if first, ok := seen[id.id]; ok {
			id.report.add(id.field, "%q is Agent %q's %s already; one SPIFFE ID is one party", id.id, first.report.name, first.field)
			continue
		}
		seen[id.id] = id
	}
	for _, id := range c.ids {
		base := id.id[:strings.LastIndexByte(id.id, '/')]
		if first, ok := templates[base]; ok && !id.template {
			id.report.add(id.field, "%q is covered by Agent %q's %s, %s%s; one SPIFFE ID is one party",
				id.id, first.report.name, first.field, base, instanceSuffix)
		}
	}
}

// owner: an agent that nobody answers for is nobody's to revoke.
func (r report) owner(o *v1alpha1.Owner) {
	if len(o.Groups) == 0 {
		r.add("spec.owner.groups", "is empty; want the groups of people who answer for the agent")
	}
	for i, g := range o.Groups {
		field := fmt.Sprintf("spec.owner.groups[%d]", i)
		switch {
		case strings.TrimSpace(g) == "":
			r.add(field, "is empty; want the name of a group")
		case slices.Index(o.Groups, g) < i:
			r.add(field, "%q stands twice; remove one", g)
		default:
			r.printable(field, g)
		}
	}
	r.printable("spec.owner.contact", o.Contact)
}

// eligible checks what an agent may ask for and how its values are narrowed.
func (r report) eligible(a *Agent, field string, in *v1alpha1.AgentCapability) {
	if !r.known(field+".name", "Capability", in.Name) {
		return
	}
	if _, ok := a.EligibleFor(in.Name); ok {
		r.add(field+".name", "%q stands twice; want one entry per capability", in.Name)
		return
	}
	capability := r.c.cat.capabilities[in.Name]
	narrowed := map[string][]string{}
	for _, name := range slices.Sorted(maps.Keys(in.Params)) {
		at := field + ".params." + name
		if _, ok := capability.Params[name]; !ok {
			r.add(at, "Capability %q has no such parameter; %s", in.Name, oneOf(capability.Params))
			continue
		}
		if len(in.Params[name]) == 0 {
			r.add(at, "is empty, which would allow nothing; want the values to allow, or leave it out")
		}
		narrowed[name] = slices.Clone(in.Params[name])
	}
	e := Eligible{Capability: capability, Narrowed: narrowed}
	r.narrowing(field, e)
	a.eligible = append(a.eligible, e)
}

// narrowing checks each listed value against what the capability can take:
// its pattern, with other parameters narrowed as this agent's are.
func (r report) narrowing(field string, e Eligible) {
	loose := map[string]string{}
	for _, p := range e.Capability.params {
		source, err := p.pattern.loosen(loose)
		if err != nil { // longer by the agent's values than by the patterns
			source = p.loose
		}
		loose[p.name] = source
		values, ok := e.Narrowed[p.name]
		if !ok {
			continue
		}
		loose[p.name] = literals(values)
		m, err := compileSource(source)
		for i, v := range values {
			at := fmt.Sprintf("%s.params.%s[%d]", field, p.name, i)
			switch fault := p.use.valueFault(v); {
			case fault != "":
				r.add(at, "%s", fault)
			case slices.Index(values, v) < i:
				r.add(at, "%q stands twice; remove one", v)
			case err != nil || !m.match(v):
				r.add(at, "%q is nothing that Capability %q can take; want a value of %s",
					v, e.Capability.Name, e.Capability.Params[p.name].Pattern)
			}
		}
	}
}

// literals is a pattern that takes any of values.
func literals(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return strings.Join(quoted, "|")
}

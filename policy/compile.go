package policy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// Problem is one thing wrong with a catalog.
type Problem struct {
	Kind, Name string // which object
	Field      string // path, such as spec.calls[0].path
	Message    string // what is wrong and what would be right
	Line       int    // of a policy's file, whose path is Name; 0 for objects
}

// String gives the problem in one line.
func (p Problem) String() string {
	if p.Line > 0 {
		return fmt.Sprintf("%s:%d: %s", p.Name, p.Line, p.Message)
	}
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s: %s", p.Kind, p.Name, p.Field, p.Message))
}

// Compile checks and compiles a set. On any problem the catalog is nil and
// all problems are listed. The set is neither kept nor changed.
func Compile(set *v1alpha1.Set) (*Catalog, []Problem) {
	if set == nil {
		return nil, []Problem{{Message: "there is no catalog"}}
	}
	c := &compiler{set: set, cat: newCatalog(), names: map[string]map[string]bool{}}
	c.declare()
	for i := range set.Destinations {
		c.destination(&set.Destinations[i])
	}
	c.clientEnvs()
	for i := range set.Providers {
		c.provider(&set.Providers[i])
	}
	for i := range set.Capabilities {
		c.capability(&set.Capabilities[i])
	}
	for i := range set.Agents {
		c.agent(&set.Agents[i])
	}
	for i := range set.Access {
		c.accessOf(&set.Access[i])
	}
	c.identities()
	c.policies()
	if len(c.problems) > 0 {
		return nil, c.problems
	}
	var err error
	if c.cat.revision, err = revisionOf(set); err != nil {
		return nil, []Problem{{Message: "cannot be encoded: " + err.Error()}}
	}
	return c.cat, nil
}

// compiler holds what Compile has so far.
type compiler struct {
	set      *v1alpha1.Set
	cat      *Catalog
	names    map[string]map[string]bool // declared, by kind: a broken object is not a missing one
	ids      []identity
	problems []Problem
}

// report adds the problems of one object.
type report struct {
	kind, name string
	c          *compiler
}

func (r report) add(field, format string, args ...any) {
	r.c.problems = append(r.c.problems, Problem{Kind: r.kind, Name: r.name, Field: field, Message: fmt.Sprintf(format, args...)})
}

// declare notes every object's name, so that a reference may stand before what
// it refers to.
func (c *compiler) declare() {
	for i := range c.set.Destinations {
		c.name("Destination", c.set.Destinations[i].Name)
	}
	for i := range c.set.Providers {
		c.name("Provider", c.set.Providers[i].Name)
	}
	for i := range c.set.Capabilities {
		c.name("Capability", c.set.Capabilities[i].Name)
	}
	for i := range c.set.Agents {
		c.name("Agent", c.set.Agents[i].Name)
	}
	for i := range c.set.Access {
		c.name("Access", c.set.Access[i].Name)
	}
}

func (c *compiler) name(kind, name string) {
	r := report{kind, name, c}
	if name == "" {
		r.add("metadata.name", "is missing; want a DNS label: lower-case letters, digits and hyphens")
		return
	}
	if f := labelFault(name); f != "" {
		r.add("metadata.name", "%q %s; want a DNS label: lower-case letters, digits and hyphens, at most 63",
			name, strings.Replace(f, "has a label that ", "", 1))
	}
	if c.names[kind] == nil {
		c.names[kind] = map[string]bool{}
	}
	if c.names[kind][name] {
		r.add("metadata.name", "there is another %s of this name; names are unique within a kind", kind)
	}
	c.names[kind][name] = true
}

// known reports whether a reference has its object, and adds a problem if not.
func (r report) known(field, kind, name string) bool {
	switch {
	case name == "":
		r.add(field, "is missing; want the name of a %s", kind)
		return false
	case !r.c.names[kind][name]:
		r.add(field, "there is no %s %q; %s", kind, name, oneOf(r.c.names[kind]))
		return false
	}
	return true
}

// printable adds a problem for a text that would not show as what it is.
func (r report) printable(field, s string) bool {
	if s == "" {
		return true
	}
	if f := usage(0).valueFault(s); f != "" {
		r.add(field, "%s; want plain text of at most %d bytes", f, maxValue)
		return false
	}
	return true
}

// oneOf says what would be right among names.
func oneOf[V any](names map[string]V) string {
	list := make([]string, 0, len(names))
	for name := range names {
		list = append(list, name)
	}
	slices.Sort(list)
	if len(list) == 0 {
		return "there is none at all"
	}
	return "want one of " + quoted(list)
}

// quoted lists at most eight texts.
func quoted(list []string) string {
	const most = 8
	var b strings.Builder
	for i, s := range list {
		if i == most {
			fmt.Fprintf(&b, " and %d more", len(list)-most)
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", s)
	}
	return b.String()
}

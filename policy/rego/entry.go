package rego

import (
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// entry is one of the two packages that decide, compiled with all that it
// refers to, and type-checked against its input alone.
type entry struct {
	pkg      string
	compiler *ast.Compiler
	outputs  []string // those that the package has, in order
	reads    [][]string
	// mocks: a rule replaces a part of the input or of the data. Then partial
	// evaluation cannot tell what is known.
	mocks bool
	query *query
}

// entry compiles a package; nil when there is none or it has a problem.
func (c *compiler) entry(pkg string, schema any, outputs map[string]bool) *entry {
	modules := c.reachable(pkg)
	if !slices.ContainsFunc(slices.Collect(maps.Values(modules)), func(m *ast.Module) bool { return packageName(m) == pkg }) {
		return nil
	}
	e := &entry{pkg: pkg, compiler: newCompiler(schema)}
	before := len(c.problems)
	e.compiler.Compile(maps.Clone(modules))
	if e.compiler.Failed() {
		c.compileErrors(pkg, e.compiler.Errors)
	} else {
		c.dangling(e.compiler.Modules)
	}
	for _, name := range slices.Sorted(maps.Keys(modules)) {
		if packageName(modules[name]) == pkg {
			e.shapes(c, name, modules[name], outputs)
		}
	}
	if len(c.problems) == before {
		e.inspect()
		e.query = e.prepare(c)
	}
	return e // not usable with a problem, but its modules are accounted for
}

func newCompiler(schema any) *ast.Compiler {
	schemas := ast.NewSchemaSet()
	schemas.Put(ast.SchemaRootRef, schema)
	return ast.NewCompiler().WithCapabilities(Capabilities()).WithSchemas(schemas).WithStrict(true).
		WithDefaultRegoVersion(ast.RegoV1).SetErrorLimit(0)
}

// holds reports whether a module is a part of the entry.
func (e *entry) holds(name string) bool { return e != nil && e.compiler.Modules[name] != nil }

// dangling reports references to data that nothing defines. They would be
// undefined on every evaluation, which nobody means.
func (c *compiler) dangling(modules map[string]*ast.Module) {
	for name, m := range modules {
		ast.WalkRefs(m, func(r ast.Ref) bool {
			if r.HasPrefix(ast.DefaultRootRef) && !defined(modules, r) {
				line := m.Package.Location.Row
				if at := r[0].Location; at != nil {
					line = at.Row
				}
				c.add(name, line, "nothing defines %s", r)
			}
			return false
		})
	}
}

func defined(modules map[string]*ast.Module, r ast.Ref) bool {
	for _, m := range modules {
		if defines(m, r) {
			return true
		}
	}
	return false
}

// defines reports whether a reference leads to a rule of the module, or to the
// package or what is above it.
func defines(m *ast.Module, r ast.Ref) bool {
	prefix := r.ConstantPrefix()
	if !meets(prefix, m.Package.Path) {
		return false
	}
	if len(prefix) <= len(m.Package.Path) {
		return true
	}
	return slices.ContainsFunc(m.Rules, func(rule *ast.Rule) bool {
		return meets(prefix, m.Package.Path.Extend(rule.Head.Ref().GroundPrefix()))
	})
}

// shapes checks the rules that make up the result: an allow that is a set, or
// an output that is nearly spelled like one, would deny or say nothing without
// anybody noticing. outputs tells for each name whether it must be a set.
func (e *entry) shapes(c *compiler, file string, m *ast.Module, outputs map[string]bool) {
	for _, rule := range m.Rules {
		head := rule.Head.Ref()
		name := string(head[0].Value.(ast.Var))
		multi, known := outputs[name]
		line := rule.Location.Row
		switch {
		case !known:
			if near := nearly(name, outputs); near != "" {
				c.add(file, line, "%s has no output %s; want %s", e.pkg, name, near)
			}
			continue
		case len(rule.Head.Args) > 0:
			c.add(file, line, "%s is a function; want a rule without arguments", name)
		case multi && rule.Head.RuleKind() != ast.MultiValue:
			c.add(file, line, "%s is a single value; want a set: %s contains message if ...", name, name)
		case name == "allow" && (rule.Head.RuleKind() != ast.SingleValue || len(head) > 1):
			c.add(file, line, "allow is not a single value; want: allow if ...")
		case len(head) > 1 && rule.Head.RuleKind() == ast.SingleValue && name != "approval":
			c.add(file, line, "%s is an object; want a value or a set", name)
		}
		if !slices.Contains(e.outputs, name) {
			e.outputs = append(e.outputs, name)
		}
	}
	slices.Sort(e.outputs)
}

// nearly finds the output that a name was most likely meant for.
func nearly(name string, outputs map[string]bool) string {
	plain := func(s string) string {
		s = strings.ToLower(strings.ReplaceAll(s, "_", ""))
		if stem, ok := strings.CutSuffix(s, "ied"); ok {
			return stem + "y"
		}
		return strings.TrimSuffix(strings.TrimSuffix(s, "s"), "ed")
	}
	for _, output := range slices.Sorted(maps.Keys(outputs)) {
		if plain(output) == plain(name) {
			return output
		}
	}
	return ""
}

// inspect finds out which parts of the input the policies read, and whether
// they replace any.
func (e *entry) inspect() {
	for _, m := range e.compiler.Modules {
		ast.WalkExprs(m, func(x *ast.Expr) bool {
			e.mocks = e.mocks || len(x.With) > 0
			return false
		})
		e.note(m)
	}
}

// note adds what of the input is read below x. A mention of input as a whole
// reads everything.
func (e *entry) note(x any) {
	ast.WalkTerms(x, func(t *ast.Term) bool {
		switch v := t.Value.(type) {
		case ast.Ref:
			if !v.HasPrefix(ast.InputRootRef) {
				return false
			}
			e.reads = append(e.reads, textPrefix(v[1:]))
			for _, part := range v[1:] {
				e.note(part)
			}
			return true
		case ast.Var:
			if v.Equal(ast.InputRootDocument.Value) {
				e.reads = append(e.reads, nil)
			}
		}
		return false
	})
}

// textPrefix gives the leading parts of a reference that are texts.
func textPrefix(r ast.Ref) []string {
	path := []string{}
	for _, part := range r {
		s, ok := part.Value.(ast.String)
		if !ok {
			break
		}
		path = append(path, string(s))
	}
	return path
}

// uses reports whether the policies may read what is at path, above or below.
func (e *entry) uses(path []string) bool {
	return slices.ContainsFunc(e.reads, func(read []string) bool {
		n := min(len(read), len(path))
		return slices.Equal(read[:n], path[:n])
	})
}

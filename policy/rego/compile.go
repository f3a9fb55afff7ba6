package rego

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Module is one file of Rego.
type Module struct {
	Path   string // as errors name it
	Source string
}

// Problem is one thing wrong with a module.
type Problem struct {
	Path    string
	Line    int // from 1
	Message string
}

// TestSuffix ends the names of files that hold tests: they are run, never
// published.
const TestSuffix = "_test.rego"

// Bounds on the modules of one catalog, in bytes and in number.
const (
	MaxModules = 256
	MaxSource  = 1 << 20 // all together
)

// Engine holds compiled policies. It is immutable, and may be used by many at
// once. A nil Engine has no policy.
type Engine struct {
	modules     map[string]*ast.Module // as parsed
	issue, call *entry
	partial     residuals
}

// HasIssue reports whether there is an exeat.issue package.
func (e *Engine) HasIssue() bool { return e != nil && e.issue != nil }

// HasCall reports whether there is an exeat.call package.
func (e *Engine) HasCall() bool { return e != nil && e.call != nil }

// IssueUses reports whether exeat.issue may read a part of its input, such as
// history.share24h.
func (e *Engine) IssueUses(path ...string) bool { return e.HasIssue() && e.issue.uses(path) }

// CallUses is IssueUses for exeat.call.
func (e *Engine) CallUses(path ...string) bool { return e.HasCall() && e.call.uses(path) }

// The two packages that decide.
const (
	packageIssue = "exeat.issue"
	packageCall  = "exeat.call"
)

// Compile checks and compiles modules. On any problem the engine is nil and
// all problems are listed, in order of paths and lines. No modules are no
// problem and no policy.
func Compile(modules []Module) (*Engine, []Problem) {
	c := &compiler{parsed: map[string]*ast.Module{}}
	if !c.parse(modules) { // what a broken module would define is not known
		return nil, c.sorted()
	}
	engine := &Engine{modules: c.parsed}
	engine.issue = c.entry(packageIssue, issueSchema, issueOutputs)
	engine.call = c.entry(packageCall, callSchema, callOutputs)
	c.strays(engine)
	if len(c.problems) > 0 {
		return nil, c.sorted()
	}
	return engine, nil
}

// compiler holds what Compile has so far.
type compiler struct {
	parsed   map[string]*ast.Module
	problems []Problem
}

func (c *compiler) add(path string, line int, format string, args ...any) {
	c.problems = append(c.problems, Problem{path, line, fmt.Sprintf(format, args...)})
}

func (c *compiler) sorted() []Problem {
	slices.SortStableFunc(c.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(c.problems)
}

// parse reads every module, and refuses what must not be one. It reports
// whether the rest can be looked at.
func (c *compiler) parse(modules []Module) bool {
	size := 0
	for i, m := range modules {
		size += len(m.Source)
		switch {
		case i == MaxModules:
			c.add(m.Path, 1, "there are more than %d modules", MaxModules)
			return false
		case size > MaxSource:
			c.add(m.Path, 1, "the modules are larger than %d bytes together", MaxSource)
			return false
		case c.parsed[m.Path] != nil:
			c.add(m.Path, 1, "there is another module of this name")
			continue
		case strings.HasSuffix(m.Path, TestSuffix):
			c.add(m.Path, 1, "is a test; tests are run by `exeat policy test`, not published")
			continue
		}
		parsed, err := Parse(m)
		if err != nil {
			c.compileErrors(m.Path, err)
			continue
		}
		c.parsed[m.Path] = parsed
	}
	whole := len(c.problems) == 0
	for name, m := range c.parsed {
		c.reserved(name, m)
	}
	return whole
}

// Parse reads one module as Rego v1 with the capabilities of policies.
func Parse(m Module) (*ast.Module, error) {
	parsed, err := ast.ParseModuleWithOpts(m.Path, m.Source, ast.ParserOptions{
		RegoVersion: ast.RegoV1, Capabilities: Capabilities(),
	})
	if err == nil && parsed == nil {
		err = errors.New("holds no package; begin with: package exeat.issue")
	}
	return parsed, err
}

// reserved keeps the packages below exeat for those that decide: another one
// there is a misspelling, or would become a part of the result.
func (c *compiler) reserved(path string, m *ast.Module) {
	name := packageName(m)
	if name == packageIssue || name == packageCall {
		return
	}
	if name == "exeat" || strings.HasPrefix(name, "exeat.") {
		c.add(path, m.Package.Location.Row, "there is no package %s; want %s, %s, or a package of your own that these refer to",
			name, packageIssue, packageCall)
	}
	if name == "system" || strings.HasPrefix(name, "system.") {
		c.add(path, m.Package.Location.Row, "package %s is the engine's own; choose another name", name)
	}
}

func packageName(m *ast.Module) string {
	return strings.TrimPrefix(m.Package.Path.String(), "data.")
}

// compileErrors takes in what OPA found.
func (c *compiler) compileErrors(file string, err error) {
	c.problems = append(c.problems, ProblemsOf(file, err)...)
}

// ProblemsOf gives what OPA found wrong; file is where nothing else is said.
func ProblemsOf(file string, err error) (found []Problem) {
	var list ast.Errors
	if !errors.As(err, &list) {
		return []Problem{{file, 1, err.Error()}}
	}
	for _, e := range list {
		name, line := file, 1
		if e.Location != nil {
			line = max(e.Location.Row, 1)
			if e.Location.File != "" {
				name = e.Location.File
			}
		}
		message := e.Message + details(e)
		if strings.Contains(message, ".internal.member_") {
			message = `no rule may be named "internal" where "in" is used; name it otherwise`
		}
		found = append(found, Problem{name, line, message})
	}
	return found
}

// details are OPA's, on one line: what would be right of a type error.
func details(e *ast.Error) string {
	if e.Details == nil {
		return ""
	}
	var lines []string
	for _, line := range e.Details.Lines() {
		if line = strings.TrimSpace(line); line != "" && strings.Trim(line, "^") != "" {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return ""
	}
	return ": " + strings.Join(lines, "; ")
}

// strays reports modules that neither package refers to: most likely a
// misspelled package, whose rules would have no say without anybody noticing.
func (c *compiler) strays(e *Engine) {
	for _, name := range slices.Sorted(maps.Keys(c.parsed)) {
		m := c.parsed[name]
		if e.issue.holds(name) || e.call.holds(name) || reservedName(packageName(m)) {
			continue
		}
		c.add(name, m.Package.Location.Row, "neither %s nor %s refers to package %s, so nothing in it counts; name it one of these, or refer to it",
			packageIssue, packageCall, packageName(m))
	}
}

func reservedName(pkg string) bool {
	first, _, _ := strings.Cut(pkg, ".")
	return first == "exeat" || first == "system"
}

// reachable gives the modules of a package and all that they refer to.
func (c *compiler) reachable(pkg string) map[string]*ast.Module {
	found := map[string]*ast.Module{}
	todo := []ast.Ref{ast.MustParseRef("data." + pkg)}
	for len(todo) > 0 {
		ref := todo[0]
		todo = todo[1:]
		for name, m := range c.parsed {
			if found[name] == nil && meets(ref, m.Package.Path) {
				found[name] = m
				todo = append(todo, dataRefs(m)...)
			}
		}
	}
	return found
}

// meets reports whether a reference may lead into a package or hold it.
func meets(ref, pkg ast.Ref) bool {
	ref = ref.ConstantPrefix()
	n := min(len(ref), len(pkg))
	return ref[:n].Equal(pkg[:n])
}

// dataRefs lists what a module refers to below data.
func dataRefs(m *ast.Module) []ast.Ref {
	var refs []ast.Ref
	ast.WalkRefs(m, func(r ast.Ref) bool {
		if r.HasPrefix(ast.DefaultRootRef) && !r.Equal(m.Package.Path) {
			refs = append(refs, r)
		}
		return false
	})
	return refs
}

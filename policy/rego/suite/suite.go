// Package suite runs the tests that operators write beside their policies:
// rules whose names begin with test_, in files that end in _test.rego.
package suite

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/exeat-dev/exeat/policy/rego"
)

// Report is what came of a run.
type Report struct {
	Tests []Test `json:"tests"`
	// Files are the policies and how much of each the tests ran.
	Files []File `json:"files"`
	// Coverage of all lines of all policies, in percent.
	Coverage float64 `json:"coverage"`
}

// Test is one rule test_*.
type Test struct {
	Name   string `json:"name"` // with its package
	File   string `json:"file"`
	Line   int    `json:"line"`
	Result Result `json:"result"`
	// Detail says what failed; Printed is what the test printed.
	Detail   string        `json:"detail,omitempty"`
	Printed  string        `json:"printed,omitempty"`
	Duration time.Duration `json:"durationNanoseconds"`
}

// Result of a test.
type Result string

// The results.
const (
	Pass Result = "pass"
	Fail Result = "fail"
	Err  Result = "error"
	Skip Result = "skip" // its name begins with todo_test_
)

// File is how much of a policy was run.
type File struct {
	Name     string  `json:"file"`
	Coverage float64 `json:"coverage"`          // percent
	Missing  []Lines `json:"missing,omitempty"` // what no test ran
}

// Lines are a range, both ends in it.
type Lines struct {
	First int `json:"first"`
	Last  int `json:"last"`
}

// Failed reports whether any test did not pass, or none ran.
func (r Report) Failed() bool {
	ran := 0
	for _, t := range r.Tests {
		switch t.Result {
		case Pass:
			ran++
		case Skip:
		default:
			return true
		}
	}
	return ran == 0
}

// testTimeout bounds one test.
const testTimeout = 5 * time.Second

// Run checks the policies among modules as they are checked when they are
// published, then runs the tests among them, those whose full name filter (RE2)
// matches. Policies that do not compile are problems and no report.
func Run(ctx context.Context, modules []rego.Module, filter string) (Report, []rego.Problem, error) {
	isTest := func(m rego.Module) bool { return strings.HasSuffix(m.Path, rego.TestSuffix) }
	if _, problems := rego.Compile(slices.DeleteFunc(slices.Clone(modules), isTest)); len(problems) > 0 {
		return Report{}, problems, nil
	}
	parsed, policies := map[string]*ast.Module{}, map[string]*ast.Module{}
	var problems []rego.Problem
	for _, m := range modules {
		p, err := rego.Parse(m)
		if err != nil {
			problems = append(problems, rego.ProblemsOf(m.Path, err)...)
			continue
		}
		parsed[m.Path] = p
		if !isTest(m) {
			policies[m.Path] = p
		}
	}
	if len(problems) > 0 {
		return Report{}, problems, nil
	}
	return run(ctx, parsed, policies, filter)
}

func run(ctx context.Context, parsed, policies map[string]*ast.Module, filter string) (Report, []rego.Problem, error) {
	compiler := ast.NewCompiler().WithCapabilities(rego.Capabilities()).WithDefaultRegoVersion(ast.RegoV1).
		WithEnablePrintStatements(true).SetErrorLimit(0)
	lines := &tracer{Cover: cover.New(), last: map[place]failure{}}
	// One at a time: what a run covers is counted without a lock.
	results, err := tester.NewRunner().SetCompiler(compiler).SetModules(maps.Clone(parsed)).SetCoverageQueryTracer(lines).
		CapturePrintOutput(true).RaiseBuiltinErrors(true).SetTimeout(testTimeout).SetParallel(1).Filter(filter).RunTests(ctx, nil)
	var broken ast.Errors
	switch {
	case errors.As(err, &broken):
		return Report{}, rego.ProblemsOf("", broken), nil
	case err != nil:
		return Report{}, nil, err
	}
	var r Report
	for result := range results {
		test := testOf(result)
		if m := parsed[test.File]; test.Result == Fail && m != nil {
			test.Line, test.Detail = lines.whyFailed(m, test)
		}
		r.Tests = append(r.Tests, test)
	}
	slices.SortStableFunc(r.Tests, func(a, b Test) int { return strings.Compare(a.File, b.File) })
	r.cover(lines.Report(policies), policies)
	return r, nil, ctx.Err()
}

func testOf(in *tester.Result) Test {
	t := Test{Name: strings.TrimPrefix(in.Package, "data.") + "." + in.Name, Printed: string(in.Output), Duration: in.Duration, Result: Fail}
	if at := in.Location; at != nil {
		t.File, t.Line = at.File, at.Row
	}
	switch {
	case in.Error != nil:
		t.Result, t.Detail = Err, in.Error.Error()
	case in.Skip:
		t.Result = Skip
	case in.Pass():
		t.Result = Pass
	}
	return t
}

// cover takes in what was run of each policy. The tests' own lines are of no
// interest.
func (r *Report) cover(c cover.Report, policies map[string]*ast.Module) {
	ran, all := 0, 0
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		f, report := File{Name: name, Coverage: 100}, c.Files[name]
		if report == nil { // nothing in it can be run
			r.Files = append(r.Files, f)
			continue
		}
		ran, all = ran+report.CoveredLines, all+report.CoveredLines+report.NotCoveredLines
		f.Coverage = report.Coverage
		for _, gap := range report.NotCovered {
			f.Missing = append(f.Missing, Lines{gap.Start.Row, gap.End.Row})
		}
		f.Missing = slices.Compact(f.Missing)
		r.Files = append(r.Files, f)
	}
	if r.Coverage = 100; all > 0 {
		r.Coverage = 100 * float64(ran) / float64(all)
	}
}

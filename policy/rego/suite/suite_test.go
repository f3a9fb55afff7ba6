package suite

import (
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/policy/rego"
)

const policy = `package exeat.issue

allow if input.risk == "low"

deny contains "closed" if input.environment == "test"
`

func TestRun(t *testing.T) {
	t.Parallel()
	report, problems, err := Run(t.Context(), []rego.Module{
		{Path: "p.rego", Source: policy},
		{Path: "p_test.rego", Source: `package exeat.issue_test

import data.exeat.issue

test_low if issue.allow with input as {"risk": "low"}

test_high if issue.allow with input as {"risk": "high"}

test_fails if to_number("x") > 1

todo_test_later if false
`},
	}, "")
	if err != nil || len(problems) > 0 {
		t.Fatal(problems, err)
	}
	want := map[string]Result{"test_low": Pass, "test_high": Fail, "test_fails": Err, "todo_test_later": Skip}
	for _, got := range report.Tests {
		name := got.Name[strings.LastIndex(got.Name, ".")+1:]
		if want[name] != got.Result || got.File != "p_test.rego" || got.Line == 0 {
			t.Errorf("%+v", got)
		}
		delete(want, name)
	}
	if len(want) > 0 || !report.Failed() {
		t.Errorf("not run: %v", want)
	}
	if len(report.Files) != 1 || report.Files[0].Name != "p.rego" || report.Coverage <= 0 || report.Coverage >= 100 || len(report.Files[0].Missing) != 1 || report.Files[0].Missing[0].First != 5 {
		t.Errorf("coverage %+v", report)
	}
}

func TestAFilterChooses(t *testing.T) {
	t.Parallel()
	report, problems, err := Run(t.Context(), []rego.Module{
		{Path: "p.rego", Source: policy},
		{Path: "p_test.rego", Source: "package p_test\n\ntest_a if true\n\ntest_b if false\n"},
	}, "test_a$")
	if err != nil || len(problems) > 0 || len(report.Tests) != 1 || report.Failed() {
		t.Errorf("%+v, %v, %v", report, problems, err)
	}
}

func TestNoTestsAreAFailure(t *testing.T) {
	t.Parallel()
	report, _, err := Run(t.Context(), []rego.Module{{Path: "p.rego", Source: policy}}, "")
	if err != nil || !report.Failed() {
		t.Errorf("%+v, %v", report, err)
	}
}

func TestProblemsComeBeforeTests(t *testing.T) {
	t.Parallel()
	for name, modules := range map[string][]rego.Module{
		"p.rego:2":      {{Path: "p.rego", Source: "package exeat.issue\nallow if input.rsik == 1"}},
		"p_test.rego:2": {{Path: "p.rego", Source: policy}, {Path: "p_test.rego", Source: "package p_test\ntest_x { true }"}},
		"q_test.rego:3": {{Path: "p.rego", Source: policy}, {Path: "q_test.rego", Source: "package q_test\n\ntest_x if time.now_ns() > 1"}},
	} {
		_, problems, err := Run(t.Context(), modules, "")
		file, line, _ := strings.Cut(name, ":")
		if err != nil || len(problems) == 0 || problems[0].Path != file || string(rune('0'+problems[0].Line)) != line {
			t.Errorf("%s: %+v, %v", name, problems, err)
		}
	}
}

package catalog

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const allows = "package exeat.issue\n\nallow := true\n"

func paths(t *testing.T, dir string) []string {
	t.Helper()
	set, errs := Load(dir, "")
	if errs != nil {
		t.Fatal(errs)
	}
	var list []string
	for _, p := range set.Policies {
		list = append(list, p.Path)
	}
	return list
}

func TestPoliciesAreReadHoweverDeep(t *testing.T) {
	t.Parallel()
	dir := goodFolder(t)
	write(t, dir, "policies/issue.rego", "package exeat.issue\n\nallow if data.company.hours.open\n", 0o644)
	write(t, dir, "policies/issue_test.rego", "not even Rego", 0o644)
	write(t, dir, "policies/lib/hours.rego", "package company.hours\n\nopen if time.weekday(input.time) != \"Sunday\"\n", 0o644)
	write(t, dir, "policies/.hidden.rego", "not even Rego", 0o644)
	write(t, dir, "policies/.old/x.rego", "not even Rego", 0o644)
	write(t, dir, "policies/README.md", "how they are meant", 0o644)
	if got := paths(t, dir); !slices.Equal(got, []string{"policies/issue.rego", "policies/lib/hours.rego"}) {
		t.Errorf("read %q", got)
	}
}

func TestPoliciesOfAConfigMap(t *testing.T) {
	t.Parallel()
	dir := goodFolder(t)
	write(t, dir, "policies/..2026/issue.rego", allows, 0o644)
	for link, to := range map[string]string{"..data": "..2026", "issue.rego": "..data/issue.rego"} {
		if err := os.Symlink(to, filepath.Join(dir, "policies", link)); err != nil {
			t.Fatal(err)
		}
	}
	if got := paths(t, dir); !slices.Equal(got, []string{"policies/issue.rego"}) {
		t.Errorf("read %q", got)
	}
}

func TestWhatIsWrongWithPoliciesHasFileAndLine(t *testing.T) {
	t.Parallel()
	dir := goodFolder(t)
	outside := t.TempDir()
	write(t, outside, "x.rego", allows, 0o644)
	write(t, dir, "policies/a.rego", "package exeat.issue\n\nallow if input.rsik == \"low\"\n", 0o644)
	write(t, dir, "policies/b.rego", "package exeat.isue\n\nallow := true\n", 0o644)
	write(t, dir, "policies/data.json", "{}", 0o644)
	write(t, dir, "policies/control.rego", "package exeat.issue\n# \x1b[2J\n", 0o644)
	write(t, dir, "agent.yaml", "apiVersion: exeat.dev/v1alpha1\nkind: Agnet\n", 0o644)
	if err := os.Symlink(filepath.Join(outside, "x.rego"), filepath.Join(dir, "policies/link.rego")); err != nil {
		t.Fatal(err)
	}
	errs := Check(dir, "")
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
	}
	for _, want := range []string{
		"agent.yaml:2: kind: ", "policies/a.rego:3: undefined ref: input.rsik", "policies/b.rego:1: there is no package exeat.isue",
		"policies/data.json: only *.rego is read here", "policies/control.rego:2: holds the control character", "policies/link.rego: leads out of its folder",
	} {
		if !slices.ContainsFunc(got, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("want %q in\n%s", want, strings.Join(got, "\n"))
		}
	}
}

func TestAChangedPolicyIsAnotherFolder(t *testing.T) {
	t.Parallel()
	dir := goodFolder(t)
	write(t, dir, "policies/a.rego", allows, 0o644)
	before := readFolder(dir).hash()
	write(t, dir, "policies/a_test.rego", "package x", 0o644)
	if readFolder(dir).hash() != before {
		t.Error("a test is a change")
	}
	write(t, dir, "policies/a.rego", allows+"# changed\n", 0o644)
	if readFolder(dir).hash() == before {
		t.Error("a policy is not")
	}
}

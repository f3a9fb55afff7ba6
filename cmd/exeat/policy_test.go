package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/policy/rego/suite"
)

const policyCatalog = `apiVersion: exeat.dev/v1alpha1
kind: Agent
metadata: {name: reader}
spec:
  spiffeID: spiffe://example.org/agent/reader
  sidecarID: spiffe://example.org/sidecar/reader
  owner: {groups: [me], contact: me@example.org}
  environment: production
  capabilities: [{name: read-repo}]
---
apiVersion: exeat.dev/v1alpha1
kind: Destination
metadata: {name: github}
spec: {hosts: [api.github.com]}
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: read-repo}
spec:
  params: {repo: {pattern: "[a-z]+"}}
  destination: github
  calls: [{method: GET, path: "/repos/${repo}"}]
`

// policyFolder is a catalog with policies and their tests.
func policyFolder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	files["catalog.yaml"] = policyCatalog
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// invoke runs the program in this process and gives its exit code.
func invoke(t *testing.T, args ...string) (code int, out, complaints string) {
	t.Helper()
	var o, e bytes.Buffer
	cmd := root()
	cmd.SetArgs(args)
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	err := cmd.ExecuteContext(t.Context())
	var x *exit
	switch {
	case errors.As(err, &x):
		code = x.code
	case err != nil:
		code = exitFailed
	}
	if err != nil {
		e.WriteString(err.Error())
	}
	return code, o.String(), e.String()
}

const (
	issuePolicy = `package exeat.issue

default allow := false

allow if input.params.repo != "secret"

ttl := "1m" if input.history.share24h > 0.5

approval := {"count": 2, "groups": ["leads"], "stepUp": {"maxAge": "5m"}} if input.history.grants > 3

deny contains "too late" if time.clock(input.time)[0] >= 22
`
	issueTest = `package exeat.issue_test

test_allowed if data.exeat.issue.allow with input as {"params": {"repo": "envoy"}}
`
	callPolicy = `package exeat.call

allow if not "restricted" in input.history.sensitivities
`
)

func TestPolicyTest(t *testing.T) {
	t.Parallel()
	dir := policyFolder(t, map[string]string{"policies/issue.rego": issuePolicy, "policies/issue_test.rego": issueTest})
	code, out, _ := invoke(t, "policy", "test", dir)
	for _, want := range []string{"RESULT", "pass", "exeat.issue_test.test_allowed", "1 passed, 0 failed", "policies/issue.rego  3, 7, 9, 11"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q in\n%s", code, want, out)
		}
	}
	var report suite.Report
	if code, out, _ = invoke(t, "policy", "test", dir, "-o", "json"); code != 0 || json.Unmarshal([]byte(out), &report) != nil || len(report.Tests) != 1 {
		t.Errorf("exit %d: %s", code, out)
	}
	if code, _, complaint := invoke(t, "policy", "test", dir, "--coverage", "90"); code != 1 || !strings.Contains(complaint, "want 90.0%") {
		t.Errorf("exit %d: %s", code, complaint)
	}
	if code, _, complaint := invoke(t, "policy", "test", dir, "-r", "nothing"); code != 1 || !strings.Contains(complaint, "no test ran") {
		t.Errorf("exit %d: %s", code, complaint)
	}
}

func TestPolicyTestFails(t *testing.T) {
	t.Parallel()
	dir := policyFolder(t, map[string]string{
		"policies/issue.rego":      issuePolicy,
		"policies/issue_test.rego": "package exeat.issue_test\n\ntest_wrong if {\n\tprint(\"seen\")\n\tdata.exeat.issue.ttl == \"9m\" with input as {\"history\": {\"share24h\": 1}}\n}\n",
	})
	code, out, _ := invoke(t, "policy", "test", dir)
	for _, want := range []string{"policies/issue_test.rego:5: exeat.issue_test.test_wrong: ", "    seen", "0 passed, 1 failed"} {
		if code != 1 || !strings.Contains(out, want) {
			t.Errorf("exit %d, want %q in\n%s", code, want, out)
		}
	}
	broken := policyFolder(t, map[string]string{"policies/issue.rego": "package exeat.issue\n\nallow if input.rsik == 1\n"})
	if code, _, complaint := invoke(t, "policy", "test", broken); code != 1 || !strings.Contains(complaint, "policies/issue.rego:3: undefined ref") {
		t.Errorf("exit %d: %s", code, complaint)
	}
	if code, out, _ := invoke(t, "policy", "test", broken, "-o", "json"); code != 1 || !strings.Contains(out, `"errors":[{"file":"policies/issue.rego","line":3`) {
		t.Errorf("exit %d: %s", code, out)
	}
}

func TestPolicyTry(t *testing.T) {
	t.Parallel()
	dir := policyFolder(t, map[string]string{"policies/issue.rego": issuePolicy, "policies/call.rego": callPolicy})
	const url = "GET https://api.github.com/repos/envoy"
	for name, tc := range map[string]struct {
		args []string
		code int
		says []string
	}{
		"allowed":           {[]string{"--param", "repo=envoy"}, 0, []string{"allowed for 5m0s\n"}},
		"not allowed":       {[]string{"--param", "repo=secret"}, 1, []string{"denied: policy_denied", "by exeat.issue.allow"}},
		"too late":          {[]string{"--param", "repo=envoy", "--time", "2026-03-02T23:00:00Z"}, 1, []string{"by exeat.issue.deny", "too late"}},
		"shorter":           {[]string{"--param", "repo=envoy", "--share24h", "0.6"}, 0, []string{"allowed for 1m0s"}},
		"approved":          {[]string{"--param", "repo=envoy", "--grants", "4"}, 0, []string{"once 2 people approve of leads, signed in within 5m0s"}},
		"by the catalog":    {[]string{"--param", "repo=7"}, 1, []string{"denied: param_not_allowed"}},
		"a call":            {[]string{"--param", "repo=envoy", "--call", url}, 0, []string{"allowed"}},
		"a call not rules":  {[]string{"--param", "repo=envoy", "--call", "POST https://api.github.com/repos/envoy"}, 1, []string{"the call is denied: call_not_granted"}},
		"a call after that": {[]string{"--param", "repo=envoy", "--call", url, "--touched", "vault=restricted"}, 1, []string{"the call is denied: policy_denied", "by exeat.call.allow"}},
		"json":              {[]string{"--param", "repo=envoy", "-o", "json"}, 0, []string{`"allowed":true,"reason":"allowed"`, `"ttl":"5m0s"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"policy", "try", "--catalog", dir, "--agent", "reader", "--capability", "read-repo"}, tc.args...)
			if !strings.Contains(strings.Join(args, " "), "--time") {
				args = append(args, "--time", "2026-03-02T10:00:00Z")
			}
			code, out, complaints := invoke(t, args...)
			for _, want := range tc.says {
				if code != tc.code || !strings.Contains(out, want) {
					t.Errorf("exit %d, want %q in\n%s%s", code, want, out, complaints)
				}
			}
		})
	}
}

func TestPolicyTryExplains(t *testing.T) {
	t.Parallel()
	dir := policyFolder(t, map[string]string{"policies/issue.rego": issuePolicy})
	_, _, trace := invoke(t, "policy", "try", "--catalog", dir, "--agent", "reader", "--capability", "read-repo", "--param", "repo=envoy", "--explain")
	if !strings.Contains(trace, "policies/issue.rego:5") || !strings.Contains(trace, "data.exeat.issue.allow") {
		t.Errorf("trace\n%s", trace)
	}
}

func TestPolicyTryWantsWhatIsThere(t *testing.T) {
	t.Parallel()
	dir := policyFolder(t, map[string]string{})
	for says, args := range map[string][]string{
		"has no agent of this name": {"--agent", "nobody", "--capability", "read-repo"},
		"want RFC 3339":             {"--agent", "reader", "--capability", "read-repo", "--time", "noon"},
		"want a method and a URL":   {"--agent", "reader", "--capability", "read-repo", "--param", "repo=envoy", "--call", "nonsense"},
		"want destination=":         {"--agent", "reader", "--capability", "read-repo", "--param", "repo=envoy", "--call", "GET https://api.github.com/x", "--touched", "x"},
	} {
		if code, _, complaint := invoke(t, append([]string{"policy", "try", "--catalog", dir}, args...)...); code != 1 || !strings.Contains(complaint, says) {
			t.Errorf("exit %d, want %q: %s", code, says, complaint)
		}
	}
}

func TestPolicySchemas(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"issue", "call"} {
		code, out, _ := invoke(t, "policy", "schema", name)
		if code != 0 || !json.Valid([]byte(out)) {
			t.Errorf("%s: exit %d", name, code)
		}
	}
	if code, _, _ := invoke(t, "policy", "schema", "other"); code != 1 {
		t.Error("another name is no error")
	}
	if code, out, _ := invoke(t, "policy", "capabilities"); code != 0 || strings.Contains(out, "http.send") || !json.Valid([]byte(out)) {
		t.Errorf("capabilities: exit %d", code)
	}
}

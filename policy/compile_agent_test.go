package policy

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

func agent0(fn func(*v1alpha1.AgentSpec)) func(*v1alpha1.Set) {
	return func(s *v1alpha1.Set) { fn(&s.Agents[0].Spec) }
}

func spiffe(id, sidecar string) func(*v1alpha1.Set) {
	return agent0(func(a *v1alpha1.AgentSpec) {
		a.SPIFFEID, a.SidecarID = or(id, a.SPIFFEID), or(sidecar, a.SidecarID)
	})
}

func narrow(i int, name string, values ...string) func(*v1alpha1.Set) {
	return agent0(func(a *v1alpha1.AgentSpec) { a.Capabilities[i].Params = map[string][]string{name: values} })
}

func onDenials(count int, per time.Duration, then string) func(*v1alpha1.Set) {
	return agent0(func(a *v1alpha1.AgentSpec) {
		a.OnDenials = &v1alpha1.OnDenials{Count: count, Per: metav1.Duration{Duration: per}, Then: then}
	})
}

func TestAThresholdIsCompiled(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	onDenials(20, time.Minute, "suspend")(set)
	cat, problems := Compile(set)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	triage, _ := cat.Agent("triage")
	browser, _ := cat.Agent("browser")
	if triage.OnDenials == nil || *triage.OnDenials != (Threshold{20, time.Minute}) || browser.OnDenials != nil {
		t.Errorf("%+v, %+v", triage.OnDenials, browser.OnDenials)
	}
}

func TestBrokenAgents(t *testing.T) {
	t.Parallel()
	const id, sidecar, other = "Agent triage: spec.spiffeID", "Agent triage: spec.sidecarID", "Agent browser: spec.sidecarID"
	const caps = "Agent triage: spec.capabilities"
	runBroken(t, []broken{
		{"no SPIFFE ID", agent0(func(a *v1alpha1.AgentSpec) { a.SPIFFEID = "" }), id, "is missing"},
		{"no sidecar", agent0(func(a *v1alpha1.AgentSpec) { a.SidecarID = "" }), sidecar, "is missing"},
		{"an https URL", spiffe("https://example.org/agent", ""), id, "not a SPIFFE ID"},
		{"a dot segment", spiffe("spiffe://example.org/a/../b", ""), id, "not a SPIFFE ID"},
		{"a trust domain", spiffe("spiffe://example.org", ""), id, "whole trust domain"},
		{"a template over a trust domain", spiffe("", "spiffe://example.org/{instance}"), sidecar, "whole trust domain"},
		{"a template for an agent", spiffe("spiffe://example.org/agent/{instance}", ""), id, "only a sidecarID"},
		{"a template inside", spiffe("", "spiffe://example.org/{instance}/x"), sidecar, "must end in"},
		{"another variable", spiffe("", "spiffe://example.org/x/{pod}"), sidecar, "must end in"},
		{"Exeat's own ID", spiffe("spiffe://example.org/exeat/api", ""), id, "Exeat's own"},
		{"a template over Exeat's own", spiffe("", "spiffe://example.org/exeat/{instance}"), sidecar, "Exeat's own"},
		{"an agent that is its own sidecar", spiffe("", "spiffe://example.org/agent/triage"), sidecar, "is Agent \"triage\"'s spec.spiffeID already"},
		{"two agents of one ID", func(s *v1alpha1.Set) { s.Agents[1].Spec.SPIFFEID = s.Agents[0].Spec.SPIFFEID }, "Agent browser: spec.spiffeID", "one party"},
		{"two sidecars of one ID", func(s *v1alpha1.Set) { s.Agents[1].Spec.SidecarID = s.Agents[0].Spec.SidecarID }, other, "one party"},
		{"a sidecar under another's template", func(s *v1alpha1.Set) { s.Agents[1].Spec.SidecarID = "spiffe://example.org/sidecar/triage/a" }, other, "covered by"},
		{"an agent under its sidecar's template", spiffe("spiffe://example.org/sidecar/triage/a", ""), id, "covered by"},
		{"no owner", agent0(func(a *v1alpha1.AgentSpec) { a.Owner.Groups = nil }), "Agent triage: spec.owner.groups", "answer for"},
		{"an empty owner", agent0(func(a *v1alpha1.AgentSpec) { a.Owner.Groups = []string{" "} }), "Agent triage: spec.owner.groups[0]", "is empty"},
		{"an owner twice", agent0(func(a *v1alpha1.AgentSpec) { a.Owner.Groups = []string{"a", "a"} }), "Agent triage: spec.owner.groups[1]", "stands twice"},
		{"an owner that does not print", agent0(func(a *v1alpha1.AgentSpec) { a.Owner.Groups = []string{"a\u202e"} }), "Agent triage: spec.owner.groups[0]", "does not print"},
		{"no number of denials", onDenials(0, time.Minute, "suspend"), "Agent triage: spec.onDenials.count", "want 1 to"},
		{"too many denials", onDenials(1e6, time.Minute, "suspend"), "Agent triage: spec.onDenials.count", "want 1 to"},
		{"no window", onDenials(20, 0, "suspend"), "Agent triage: spec.onDenials.per", "want 1s to"},
		{"too wide a window", onDenials(20, 48*time.Hour, "suspend"), "Agent triage: spec.onDenials.per", "want 1s to"},
		{"nothing to be done", onDenials(20, time.Minute, ""), "Agent triage: spec.onDenials.then", "want suspend"},
		{"another thing to be done", onDenials(20, time.Minute, "warn"), "Agent triage: spec.onDenials.then", "want suspend"},
		{"an unknown binding", agent0(func(a *v1alpha1.AgentSpec) { a.TaskBinding = "never" }), "Agent triage: spec.taskBinding", "want required"},
		{"a binding that does nothing yet", agent0(func(a *v1alpha1.AgentSpec) { a.TaskBinding = v1alpha1.TaskOptional }), "Agent triage: spec.taskBinding", "this version does not have; want required"},
		{"an unknown capability", agent0(func(a *v1alpha1.AgentSpec) { a.Capabilities[1].Name = "x" }), caps + "[1].name", "no Capability"},
		{"a capability twice", agent0(func(a *v1alpha1.AgentSpec) { a.Capabilities[2].Name = "write-ticket" }), caps + "[2].name", "stands twice"},
		{"an unknown parameter", narrow(1, "project", "OPS"), caps + "[1].params.project", `want one of "ticket"`},
		{"no values", narrow(0, "project"), caps + "[0].params.project", "allow nothing"},
		{"an empty value", narrow(0, "project", ""), caps + "[0].params.project[0]", "is empty"},
		{"a value twice", narrow(0, "project", "OPS", "OPS"), caps + "[0].params.project[1]", "stands twice"},
		{"a value that the pattern cannot take", narrow(0, "project", "OPS", "ops"), caps + "[0].params.project[1]", "want a value of [A-Z]{2,5}"},
		{"a value of a pattern within a pattern", narrow(0, "ticket", "OPS-x"), caps + "[0].params.ticket[0]", "can take"},
		{"a value that other values rule out", agent0(func(a *v1alpha1.AgentSpec) {
			a.Capabilities[0].Params = map[string][]string{"project": {"OPS"}, "ticket": {"OPS-1", "SUP-1"}}
		}), caps + "[0].params.ticket[1]", "can take"},
		{"a value that no path can hold", narrow(2, "name", "a;b"), caps + "[2].params.name[0]", "segment of a path"},
	})
}

func TestSidecarBelongsToItsAgentAlone(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	for id, want := range map[string]string{
		"spiffe://example.org/sidecar/triage/pod-1": "triage",
		"spiffe://example.org/sidecar/browser":      "browser",
		"spiffe://example.org/sidecar/triage":       "",
		"spiffe://example.org/sidecar/triage/":      "",
		"spiffe://example.org/sidecar/triage/..":    "",
		"spiffe://example.org/sidecar/triage/a/b":   "",
		"spiffe://example.org/sidecar/triage//":     "",
		"spiffe://example.org/sidecar/triage/a b":   "",
		"spiffe://example.org/sidecar/browser/a":    "",
		"spiffe://other.org/sidecar/triage/pod-1":   "",
		"spiffe://example.org/agent/triage":         "",
		"spiffe://example.org/sidecar/triage/{x}":   "",
		"": "", "x": "", "/": "",
	} {
		a, ok := cat.AgentBySidecar(id)
		if ok != (want != "") || ok && a.Name != want {
			t.Errorf("%q: %v %v, want %q", id, a, ok, want)
		}
	}
	if a, ok := cat.AgentBySPIFFEID("spiffe://example.org/agent/triage"); !ok || a.Name != "triage" {
		t.Error("not found by its own ID")
	}
	if _, ok := cat.AgentBySPIFFEID("spiffe://example.org/sidecar/browser"); ok {
		t.Error("a sidecar is taken for an agent")
	}
}

package policy

import (
	"slices"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// withPolicies is the fixture with Rego modules.
func withPolicies(t testing.TB, sources ...string) *Catalog {
	t.Helper()
	set := fixtureSet(t)
	for i, s := range sources {
		set.Policies = append(set.Policies, v1alpha1.PolicyModule{Path: "policies/" + string(rune('a'+i)) + ".rego", Source: s})
	}
	cat, problems := Compile(set)
	for _, p := range problems {
		t.Fatal(p)
	}
	return cat
}

func TestPoliciesArePartOfTheRevision(t *testing.T) {
	t.Parallel()
	const one, two = "package exeat.issue\nallow := true", "package exeat.call\nallow := true"
	a, b, none := withPolicies(t, one, two), withPolicies(t, two, one), withPolicies(t)
	if a.Revision() == none.Revision() || a.Revision() == b.Revision() { // b's paths are other ones
		t.Errorf("revisions %s %s %s", a.Revision(), b.Revision(), none.Revision())
	}
	set := fixtureSet(t)
	set.Policies = []v1alpha1.PolicyModule{{Path: "policies/b.rego", Source: two}, {Path: "policies/a.rego", Source: one}}
	packed, err := EncodeSet(set)
	if err != nil {
		t.Fatal(err)
	}
	unpacked, err := DecodeSet(packed)
	if err != nil {
		t.Fatal(err)
	}
	again, problems := Compile(unpacked)
	if len(problems) > 0 || again.Revision() != a.Revision() || !again.Policies().HasIssue() || !again.Policies().HasCall() {
		t.Errorf("after the store: %v, %s instead of %s", problems, again.Revision(), a.Revision())
	}
}

func TestProblemsOfPoliciesComeWithTheOthers(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	set.Agents[0].Spec.Capabilities[0].Name = "absent"
	set.Policies = []v1alpha1.PolicyModule{{Path: "policies/x.rego", Source: "package exeat.issue\n\nallow if input.rsik == 1"}}
	cat, problems := Compile(set)
	var lines []string
	for _, p := range problems {
		lines = append(lines, p.String())
	}
	if cat != nil || len(lines) != 2 || !strings.HasPrefix(lines[1], "policies/x.rego:3: undefined ref: input.rsik") {
		t.Errorf("problems %q", lines)
	}
}

func TestJudgeAsksWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	cat := withPolicies(t, `package exeat.issue
allow if {
	input.agent == {"name": "triage", "spiffeID": "spiffe://example.org/agent/triage"}
	input.owner == {"groups": ["support"], "contact": "support@example.org"}
	input.environment == "production"
	input.capability == "read-ticket"
	input.params == {"project": "OPS", "ticket": "OPS-42"}
	input.risk == "low"
	input.sensitivity == "internal"
	input.destination == "tickets"
	input.ttl == 300
	input.maxUses == 3
	input.task.type == "triage"
	input.claimed == {"purpose": "look", "context": {"a": "b"}}
	input.startedBy == "someone"
	input.envelope == ["read-ticket"]
	input.chain == ["planner"]
	input.approval == {"state": "approved", "approvers": ["ann"]}
	time.clock(input.time) == [12, 0, 0]
	input.history.grants == 2
}
ttl := "1m"
`)
	agent, _ := cat.Agent("triage")
	r, err := cat.Resolve("triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "OPS-42"})
	if err != nil {
		t.Fatal(err)
	}
	ask := Ask{
		Agent: agent, Resolved: r, TTL: r.Capability.TTL, MaxUses: 3, Envelope: []string{"read-ticket"}, Chain: []string{"planner"}, Approvers: []string{"ann"},
		Task: &Task{Type: "triage", Purpose: "look", Context: map[string]string{"a": "b"}, StartedBy: "someone"},
	}
	ask.History.Grants = 2
	if got := cat.Judge(t.Context(), ask, t0); !got.Allowed || got.TTL.String() != "1m0s" {
		t.Errorf("got %+v", got)
	}
	ask.Chain = nil
	if got := cat.Judge(t.Context(), ask, t0); got.Allowed || got.Rule != "exeat.issue.allow" {
		t.Errorf("got %+v", got)
	}
	if got := fixture(t).Judge(t.Context(), ask, t0); !got.Allowed {
		t.Errorf("without policies: %+v", got)
	}
}

func TestJudgeCallAsksWithWhatIsKnown(t *testing.T) {
	t.Parallel()
	cat := withPolicies(t, `package exeat.call
allow if {
	input.grant.capability == "read-ticket"
	input.grant.params.ticket == "OPS-42"
	input.grant.sensitivity == "internal"
	input.agent.name == "triage"
	input.task.type == "triage"
	input.call == {
		"method": "GET", "scheme": "https", "host": "tickets.example.org", "port": 443, "path": "/v1/tickets/OPS-42/comments",
		"segments": ["v1", "tickets", "OPS-42", "comments"], "query": {"page": ["1"]}, "hasBody": false,
	}
	not input.body
	input.history == {"highestSensitivity": "confidential", "sensitivities": ["internal", "confidential"], "destinations": ["files", "tickets"], "bytesOut": 7}
}
`)
	agent, _ := cat.Agent("triage")
	h := held(t, cat, g1, "triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "OPS-42"})
	h.Ground = new(Ground)
	v := view("triage", h)
	v.Task.Type = "triage"
	v.Touches = []Touch{{"files", v1alpha1.SensitivityConfidential}, {"files", v1alpha1.SensitivityInternal}, {"tickets", v1alpha1.SensitivityInternal}, {"web", v1alpha1.SensitivityPublic}}
	own := Touch{"web", v1alpha1.SensitivityPublic}
	f := CallFacts{Agent: agent, View: v, Held: h, Own: &own, BytesOut: 7}
	c := call(t, "GET", "https://tickets.example.org/v1/tickets/OPS-42/comments?page=1")
	for range 2 { // the second time by what the first one kept
		if denied := cat.JudgeCall(t.Context(), f, c, t0); denied != nil {
			t.Errorf("denied: %+v", denied)
		}
	}
	f.Own = nil
	denied := cat.JudgeCall(t.Context(), f, c, t0)
	if denied == nil || denied.Rule != "exeat.call.allow" {
		t.Fatalf("got %+v", denied)
	}
	d := NewDenial(Decision{Reason: PolicyDenied, Policy: denied}, "d_1", c, 0)
	if d.Rule != "exeat.call.allow" || !slices.Equal(d.Messages, denied.Messages) || d.Status != 403 || d.Retry != RetryNever {
		t.Errorf("denial %+v", d)
	}
	// Another catalog's policies do not judge by what this one's kept.
	if denied := withPolicies(t, "package exeat.call\nallow := true").JudgeCall(t.Context(), f, c, t0); denied != nil {
		t.Errorf("under another catalog: %+v", denied)
	}
}

func TestAnUnknownSensitivityIsTheHighest(t *testing.T) {
	t.Parallel()
	f := CallFacts{View: &TaskView{Touches: []Touch{{"a", "secret"}, {"b", v1alpha1.SensitivityRestricted}}}}
	if got := f.history().Sensitivities; !slices.Equal(got, []string{"restricted", "secret"}) {
		t.Errorf("got %v", got)
	}
}

func TestExplainTellsOfThePolicy(t *testing.T) {
	t.Parallel()
	cat := withPolicies(t, "package exeat.call\n\nallow := true\n\ndeny contains \"not now\" if input.call.method == \"GET\"\n")
	agent, _ := cat.Agent("triage")
	h := held(t, cat, g1, "triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "OPS-42"})
	v := view("triage", h)
	c := call(t, "GET", "https://tickets.example.org/v1/tickets/OPS-42")
	e := Explain(cat, agent, v, c, t0)
	e.Consult(t.Context(), cat, CallFacts{Agent: agent, View: v}, c, t0)
	if e.Reason != PolicyDenied || e.Policy == nil || e.Policy.Rule != "exeat.call.deny" || e.Policy.Messages[0] != "not now" {
		t.Errorf("got %+v", e)
	}
	other := call(t, "GET", "https://tickets.example.org/v1/tickets/OPS-43")
	e = Explain(cat, agent, v, other, t0)
	if e.Consult(t.Context(), cat, CallFacts{Agent: agent, View: v}, other, t0); e.Reason != CallNotGranted || e.Policy != nil {
		t.Errorf("what no grant covers: %+v", e)
	}
}

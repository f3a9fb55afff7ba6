package policy

import (
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// onCallSet lets calls ask for one of the fixture's capabilities.
func onCallSet(t testing.TB, capability string) *v1alpha1.Set {
	t.Helper()
	set := fixtureSet(t)
	for i := range set.Capabilities {
		set.Capabilities[i].Spec.OnCall = set.Capabilities[i].Name == capability
	}
	return set
}

func TestOnCall(t *testing.T) {
	t.Parallel()
	cat, problems := Compile(onCallSet(t, "read-ticket"))
	if problems != nil {
		t.Fatal(problems)
	}
	triage, _ := cat.Agent("triage")
	browser, _ := cat.Agent("browser")
	plain, _ := fixture(t).Agent("triage")
	get := func(url string) *Call { return call(t, "GET", url) }
	past := func(why EndReason) *Held { return ended(held(t, cat, g1, "triage", "read-ticket", ops42()), why) }
	for _, tt := range []struct {
		why   string
		cat   *Catalog
		agent *Agent
		view  *TaskView
		call  *Call
		want  bool
	}{
		{"the first call of an eligible agent asks", cat, triage, view("triage"), get(ticketURL), true},
		{"again after it expired", cat, triage, view("triage", past(EndExpired)), get(ticketURL), true},
		{"again after the agent ended it", cat, triage, view("triage", past(EndCompleted)), get(ticketURL), true},
		{"not after it was revoked", cat, triage, view("triage", past(EndRevoked)), get(ticketURL), false},
		{"nor after the policy took it away", cat, triage, view("triage", past(EndPolicyChanged)), get(ticketURL), false},
		{"nor while it is pending", cat, triage, view("triage", with(past(""), func(h *Held) { h.Grant.Life = Begin(t0, t0) })), get(ticketURL), false},
		{"nor when a floor ended it", cat, triage, view("triage", with(held(t, cat, g1, "triage", "read-ticket", ops42()), func(h *Held) { h.Floors[0].Raise(1 << 40) })), get(ticketURL), false},
		{"another ticket asks for itself", cat, triage, view("triage", past(EndRevoked)), get("https://tickets.example.org/v1/tickets/OPS-43"), true},
		{"without a task nothing asks", cat, triage, nil, get(ticketURL), false},
		{"nor without a call", cat, triage, view("triage"), nil, false},
		{"nor a call that names a grant", cat, triage, view("triage"), with1(get(ticketURL), func(c *Call) { c.GrantID = g1 }), false},
		{"nor for another method", cat, triage, view("triage"), call(t, "DELETE", ticketURL), false},
		{"nor outside the agent's narrowing", cat, triage, view("triage"), get("https://tickets.example.org/v1/tickets/XYZ-1"), false},
		{"nor elsewhere", cat, triage, view("triage"), get("https://elsewhere.example/"), false},
		{"an agent that is narrowed otherwise asks within its own", cat, browser, view("browser"), get("https://tickets.example.org/v1/tickets/XYZ-1"), true},
		{"nothing asks by default", fixture(t), plain, view("triage"), get(ticketURL), false},
		{"nor without an agent", cat, nil, view("triage"), get(ticketURL), false},
	} {
		n, ok := tt.cat.OnCall(tt.agent, tt.view, tt.call)
		if ok != tt.want || ok && n.Capability != "read-ticket" {
			t.Errorf("%s: %v %+v", tt.why, ok, n)
		}
	}
}

func TestOnCallIsForLowRiskWithoutApproval(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		change func(*v1alpha1.CapabilitySpec)
		want   string
	}{
		{func(s *v1alpha1.CapabilitySpec) { s.Risk = v1alpha1.RiskMedium }, "spec.onCall: is for low risk only"},
		{func(s *v1alpha1.CapabilitySpec) { s.Approval = &v1alpha1.Approval{Groups: []string{"leads"}} }, "spec.onCall: does not go with approval"},
	} {
		set := onCallSet(t, "read-ticket")
		tt.change(&set.Capabilities[0].Spec)
		_, problems := Compile(set)
		if len(problems) != 1 || !strings.Contains(problems[0].String(), tt.want) {
			t.Errorf("%v, want %q", problems, tt.want)
		}
	}
}

func TestTheDestinationsOfOnCall(t *testing.T) {
	t.Parallel()
	cat, _ := Compile(onCallSet(t, "read-ticket"))
	triage, _ := cat.Agent("triage")
	if list := triage.OnCallDestinations(); len(list) != 1 || list[0].Name != "tickets" {
		t.Errorf("%v", list)
	}
	plain, _ := fixture(t).Agent("triage")
	if plain.OnCallDestinations() != nil || (*Agent)(nil).OnCallDestinations() != nil {
		t.Error("destinations without a capability that says onCall")
	}
}

package grant

import (
	"testing"

	"github.com/exeat-dev/exeat/policy"
)

func TestWhoSeesAndWhoChangesATask(t *testing.T) {
	t.Parallel()
	triage, other := &policy.Agent{Name: "triage"}, &policy.Agent{Name: "other"}
	task := policy.Task{ID: "t_1", Agent: "triage", Instance: "spiffe://x/s/1", Credential: policy.NewSecret("right")}
	right, wrong := policy.NewSecret("right"), policy.NewSecret("wrong")
	const here, elsewhere = policy.Instance("spiffe://x/s/1"), policy.Instance("spiffe://x/s/2")
	for name, c := range map[string]struct {
		caller      Caller
		see, change bool
	}{
		"nobody does neither":                                {Caller{}, false, false},
		"an operator only sees":                              {Caller{Operator: true}, true, false},
		"its own sidecar without proof only sees":            {Caller{Agent: triage, Instance: here}, true, false},
		"with the credential it changes":                     {Caller{Agent: triage, Instance: here, Proof: right}, true, true},
		"with a wrong credential it does not even see":       {Caller{Agent: triage, Instance: here, Proof: wrong}, false, false},
		"from the task's room it changes":                    {Caller{Agent: triage, Instance: here, TaskFromRoom: "t_1"}, true, true},
		"from another task's room it does not see":           {Caller{Agent: triage, Instance: here, TaskFromRoom: "t_2"}, false, false},
		"from another room with the credential it changes":   {Caller{Agent: triage, Instance: here, TaskFromRoom: "t_2", Proof: right}, true, true},
		"a wrong credential is not saved by the room":        {Caller{Agent: triage, Instance: here, TaskFromRoom: "t_1", Proof: wrong}, false, false},
		"another instance of the agent does not see":         {Caller{Agent: triage, Instance: elsewhere, Proof: right}, false, false},
		"another agent does not see":                         {Caller{Agent: other, Instance: here, Proof: right}, false, false},
		"another agent that names the room does not see":     {Caller{Agent: other, Instance: elsewhere, TaskFromRoom: "t_1"}, false, false},
		"an agent without an instance does not see":          {Caller{Agent: triage, Proof: right}, false, false},
		"an instance without an agent does not see":          {Caller{Instance: here, Proof: right}, false, false},
		"an operator's credential changes nothing by itself": {Caller{Operator: true, Proof: right}, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if see, change := c.caller.maySee(task, []string{"support"}), c.caller.mayChange(task); see != c.see || change != c.change {
				t.Errorf("sees %v, changes %v; want %v, %v", see, change, c.see, c.change)
			}
		})
	}
	bare := task
	bare.Credential = policy.Secret{}
	if (Caller{Agent: triage, Instance: here, Proof: right}).mayChange(bare) {
		t.Error("a task without a credential was changed with one")
	}
}

// What people and the operator may do; what an Access gives is policy's to test.
func TestWhatACallerMayDo(t *testing.T) {
	t.Parallel()
	owners := []string{"support"}
	for _, v := range append(policy.Verbs(), "", "own") {
		operator := Caller{Operator: true}
		if want := v != policy.VerbApprove && v != "" && v != "own"; operator.May(v, owners) != want || operator.MayAny(v) != want {
			t.Errorf("the operator may %q: %v", v, operator.May(v, owners))
		}
		for name, c := range map[string]Caller{
			"nobody":                   {},
			"an agent's sidecar":       {Agent: &policy.Agent{Name: "a", OwnerGroups: owners}, Instance: "i"},
			"a person without rights":  {Person: &Person{Issuer: "i", Subject: "s", Groups: owners}},
			"rights without a person":  {Rights: (*policy.Catalog)(nil).Rights("i", "c", owners)},
			"an operator's name alone": {Name: "local/uid/0"},
		} {
			if c.May(v, owners) || c.MayAny(v) {
				t.Errorf("%s may %q", name, v)
			}
		}
	}
}

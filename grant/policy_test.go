package grant_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// under publishes the catalog with an exeat.issue package.
func (w *world) under(rules string) {
	w.t.Helper()
	set := new(v1alpha1.Set)
	w.must(json.Unmarshal([]byte(catalogJSON), set))
	set.Policies = []v1alpha1.PolicyModule{{Path: "policies/issue.rego", Source: "package exeat.issue\n\n" + rules}}
	text, err := json.Marshal(set)
	w.must(err)
	w.publish(string(text))
}

// browse asks for a grant that needs no credential.
func (w *world) browse(c grant.Caller, t policy.Task, ttl time.Duration) (policy.Grant, error) {
	w.t.Helper()
	st, err := w.Request(w.ctx, c, grant.Request{Task: t.ID, Capability: "browse", TTL: ttl}, 0)
	return st.Grant, err
}

// denied checks that err is a refusal by policy that says something.
func denied(t *testing.T, err error, says string) {
	t.Helper()
	var refused *policy.RequestError
	if !errors.As(err, &refused) || refused.Code != policy.CodePolicyDenied || !strings.Contains(refused.Message, says) {
		t.Errorf("want policy_denied with %q, got %v", says, err)
	}
}

func TestPolicyDecidesOnRequests(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct{ rules, says string }{
		"allows":                {`allow if { input.agent.name == "triage"; input.task.type == "triage"; "support" in input.owner.groups }`, ""},
		"denies with a message": {"allow := true\ndeny contains \"not while it is being tested\" if input.capability == \"browse\"", "exeat.issue.deny: not while it is being tested"},
		"does not allow":        {`allow if input.environment == "production"`, "exeat.issue.allow: no rule allows it"},
		"fails":                 {`allow if to_number(input.agent.name) > 0`, "exeat.issue.allow (policies/issue.rego:3): a function in the policy failed"},
		"contradicts itself":    {"allow := true if input.risk == \"low\"\nallow := false if input.ttl > 1", "contradict"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.under(tc.rules)
			task, c := w.task(triage1, 0)
			g, err := w.browse(c, task, 0)
			if tc.says != "" {
				denied(t, err, tc.says)
			} else if err != nil || g.State != policy.Active {
				t.Errorf("got %+v, %v", g, err)
			}
		})
	}
}

// A policy lowers the uses, and never raises them.
func TestPolicyLowersTheUses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under("allow := true\nmaxUses := 3")
	task, c := w.task(triage1, 0)
	for asked, want := range map[int64]int64{0: 3, 2: 2, 9: 3} {
		st, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse", MaxUses: asked}, 0)
		w.must(err)
		if st.Grant.MaxUses != want {
			t.Errorf("asked for %d uses, got %d, want %d", asked, st.Grant.MaxUses, want)
		}
	}
}

// A policy that asks people leaves the request pending until they have approved.
func TestPolicyAsksPeople(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under("allow := true\napproval := {\"count\": 1, \"groups\": [\"leads\"]} if input.capability == \"browse\"")
	task, c := w.task(triage1, 0)
	g, err := w.browse(c, task, 0)
	if err != nil || g.State != policy.Pending {
		t.Errorf("got %+v, %v", g, err)
	}
}

func TestPolicyLowersTheTimeAndNeverRaisesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under("allow := true\nttl := \"2m\"")
	task, c := w.task(triage1, 0)
	for asked, want := range map[time.Duration]time.Duration{0: 2 * time.Minute, 10 * time.Minute: 2 * time.Minute, time.Minute: time.Minute} {
		g, err := w.browse(c, task, asked)
		w.must(err)
		if got := g.Until.Sub(g.Activated); got > want || got < want-time.Second {
			t.Errorf("asked for %v: lasts %v, want %v", asked, got, want)
		}
	}
	if _, err := w.browse(c, task, time.Hour); err == nil { // the catalog's own limit stands
		t.Error("more than the capability allows")
	}
}

func TestPolicyLowersTheUsesAndNeverRaisesThem(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under("allow := true\nmaxUses := 3")
	task, c := w.task(triage1, 0)
	for asked, want := range map[int64]int64{0: 3, 2: 2, 9: 3} {
		st, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse", MaxUses: asked}, 0)
		if err != nil || st.Grant.MaxUses != want {
			t.Errorf("asked for %d: %d, %v, want %d", asked, st.Grant.MaxUses, err, want)
		}
	}
}

// A refusal by policy is on record with what the policy said.
func TestWhatAPolicyRefusedIsOnRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under("allow := true\ndeny contains \"the books are closed\"")
	task, c := w.task(triage1, 0)
	_, err := w.browse(c, task, 0)
	denied(t, err, "the books are closed")
	if len(w.lines("policy_denied: exeat.issue.deny: the books are closed")) != 1 {
		t.Error("not in the record")
	}
}

const share = "default allow := false\nallow if input.history.share24h <= 0.3\ndeny contains sprintf(\"held for %.4f of a day\", [input.history.share24h]) if input.history.share24h > 0.3"

// move sets the clock forward, and makes the sweeper look at it: its timer runs
// by the clock that cannot be set.
func (w *world) move(d time.Duration) {
	w.t.Helper()
	w.ahead.Add(int64(d))
	w.task(writer, time.Hour)
}

// Grants that follow each other add up, over tasks, over a restart and after
// their tasks are forgotten; a day later they count no more.
func TestTheShareOfTheDayAddsUp(t *testing.T) {
	t.Parallel()
	w := newWorldWith(t, time.Minute)
	wide := strings.ReplaceAll(catalogJSON, `"maxTTL": "15m"`, `"maxTTL": "10h"`)
	set := new(v1alpha1.Set)
	w.must(json.Unmarshal([]byte(wide), set))
	set.Policies = []v1alpha1.PolicyModule{{Path: "policies/issue.rego", Source: "package exeat.issue\n\n" + share}}
	text, err := json.Marshal(set)
	w.must(err)
	w.publish(string(text))

	task, c := w.task(triage1, 24*time.Hour)
	_, err = w.browse(c, task, 4*time.Hour)
	w.must(err)
	w.move(4*time.Hour + time.Minute)
	_, err = w.browse(c, task, 4*time.Hour) // 4 of 24 hours so far
	w.must(err)
	w.move(4*time.Hour + time.Minute)
	_, err = w.browse(c, task, 0)
	denied(t, err, "held for 0.33")
	// Another capability, and another agent, have shares of their own.
	_, err = w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "read-ticket", Params: ticket}, 0)
	w.must(err)
	other, oc := w.task(writer, time.Hour)
	_, err = w.browse(oc, other, 0)
	w.must(err)

	_, err = w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
	w.must(err)
	w.move(2 * time.Minute)
	w.until(task.ID, func(v *policy.TaskView) bool { return v == nil })
	w.reopen()
	w.publish(string(text))
	task, c = w.task(triage1, 24*time.Hour)
	_, err = w.browse(c, task, 0)
	denied(t, err, "held for 0.33")

	w.move(19 * time.Hour) // the first of the two is out of the window by now
	task, c = w.task(triage1, 24*time.Hour)
	_, err = w.browse(c, task, 0)
	w.must(err)
}

// What ended early counts for as long as it was held.
func TestAnEarlyEndLowersTheShare(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]bool{"while the task is known": false, "after it is forgotten": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorldWith(t, time.Minute)
			wide := strings.ReplaceAll(catalogJSON, `"maxTTL": "15m"`, `"maxTTL": "20h"`)
			set := new(v1alpha1.Set)
			w.must(json.Unmarshal([]byte(wide), set))
			set.Policies = []v1alpha1.PolicyModule{{Path: "policies/issue.rego", Source: "package exeat.issue\n\n" + share}}
			text, err := json.Marshal(set)
			w.must(err)
			w.publish(string(text))
			task, c := w.task(triage1, 24*time.Hour)
			g, err := w.browse(c, task, 20*time.Hour)
			w.must(err)
			w.move(time.Hour)
			_, _, err = w.End(w.ctx, c, g.ID)
			w.must(err)
			if forget {
				_, err = w.EndTask(w.ctx, c, task.ID, policy.EndCompleted)
				w.must(err)
				w.move(2 * time.Minute)
				w.until(task.ID, func(v *policy.TaskView) bool { return v == nil })
				task, c = w.task(triage1, 24*time.Hour)
			}
			w.move(15 * time.Hour)
			_, err = w.browse(c, task, 0)
			w.must(err)
		})
	}
}

// Requests of an owner's agents are counted together, refused ones among them,
// whichever replica they come to.
func TestAnOwnersRequestsAreCounted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under("allow if input.history.owner.requests1h < 3\nallow if input.history.owner.requests1m > 100")
	task, c := w.task(triage1, 24*time.Hour)
	for range 3 {
		_, err := w.browse(c, task, 0)
		w.must(err)
	}
	_, err := w.browse(c, task, 0)
	denied(t, err, "exeat.issue.allow")
	other, oc := w.task(writer, time.Hour) // of another owner
	_, err = w.browse(oc, other, 0)
	w.must(err)
	w.move(2 * time.Hour)
	_, err = w.browse(c, task, 0)
	w.must(err)
}

// With no policy that asks, nothing is kept.
func TestNoHistoryIsKeptUnasked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.under("allow if input.risk == \"low\"")
	task, c := w.task(triage1, 0)
	_, err := w.browse(c, task, 0)
	w.must(err)
	entries, err := w.store.Bucket("history").List(w.ctx, "")
	if err != nil || len(entries) > 0 {
		t.Errorf("%d entries, %v", len(entries), err)
	}
}

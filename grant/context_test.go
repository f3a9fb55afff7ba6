package grant_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

// What the agent is comes from the catalog. Each of these changes makes it
// another one, or changes what it was granted, or neither.
func TestAChangedCatalogEndsWhatItNoLongerGives(t *testing.T) {
	t.Parallel()
	const sidecar = `spiffe://example.org/sidecar/triage/{instance}`
	for name, tt := range map[string]struct {
		old, replacement string
		grant, task      policy.EndReason // empty: it goes on
	}{
		"another owner":                 {`"groups": ["support"]`, `"groups": ["other"]`, policy.EndContextChanged, policy.EndContextChanged},
		"one more owner":                {`"groups": ["support"]`, `"groups": ["support", "other"]`, policy.EndContextChanged, policy.EndContextChanged},
		"another environment":           {`"spiffeID": "spiffe://example.org/agent/triage"`, `"environment": "production", "spiffeID": "spiffe://example.org/agent/triage"`, policy.EndContextChanged, policy.EndContextChanged},
		"another sidecar":               {sidecar, `spiffe://example.org/sidecar/new/{instance}`, policy.EndContextChanged, policy.EndContextChanged},
		"another identity":              {`spiffe://example.org/agent/triage`, `spiffe://example.org/agent/new`, policy.EndContextChanged, policy.EndContextChanged},
		"no such agent":                 {`"name": "triage"`, `"name": "renamed"`, policy.EndContextChanged, policy.EndContextChanged},
		"another path":                  {`/v1/tickets/${ticket}`, `/v2/tickets/${ticket}`, policy.EndPolicyChanged, ""},
		"another scope":                 {`"scope": {"ticket": "${ticket}"}`, `"scope": {"ticket": "all"}`, policy.EndPolicyChanged, ""},
		"another host":                  {`"hosts": ["tickets.example.org"]`, `"hosts": ["tickets.example.net"]`, policy.EndPolicyChanged, ""},
		"a shorter life":                {`"credential": {"provider": "jwt", "scope": {"ticket": "${ticket}"}},` + "\n" + `    "limits": {"ttl": "5m"`, `"credential": {"provider": "jwt", "scope": {"ticket": "${ticket}"}},` + "\n" + `    "limits": {"ttl": "4m"`, policy.EndPolicyChanged, ""},
		"a parameter's value withdrawn": {`["OPS", "SUP"]`, `["SUP"]`, policy.EndPolicyChanged, ""},
		"not eligible any more":         {`{"name": "read-ticket", "params": {"project": ["OPS", "SUP"]}}, `, ``, policy.EndPolicyChanged, ""},
		"another contact":               {`support@example.org`, `help@example.org`, "", ""},
		"another description":           {`Read one ticket.`, `Read a ticket.`, "", ""},
		"more values of a parameter":    {`["OPS", "SUP"]`, `["OPS", "SUP", "NEW"]`, "", ""},
		"a threshold":                   {`"spiffeID": "spiffe://example.org/agent/triage"`, `"onDenials": {"count": 3, "per": "1m", "then": "suspend"}, "spiffeID": "spiffe://example.org/agent/triage"`, "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.cars.connect(triage1, false)
			task, c := w.task(triage1, 0)
			g := w.granted(c, task, 0)
			changed := strings.Replace(catalogJSON, tt.old, tt.replacement, 1)
			if changed == catalogJSON {
				t.Fatalf("the catalog holds no %q", tt.old)
			}
			w.publish(changed)
			// With the catalog no call is let out any more, whoever writes it down.
			if h := find(w.store.Index().Task(task.ID), g.ID); (h.Resolved == nil) != (tt.grant != "") || h.Fallen != tt.grant {
				t.Errorf("resolved %v, fallen %q", h.Resolved != nil, h.Fallen)
			}
			v := w.until(task.ID, func(v *policy.TaskView) bool {
				return find(v, g.ID).Grant.End == tt.grant && v.Task.End == tt.task
			})
			if tt.task == "" && v.Task.State != policy.Active {
				t.Errorf("the task: %+v", v.Task.Life)
			}
		})
	}
}

func TestAnEnvelopeNarrowsATask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.cars.connect(triage1, false)
	task, err := w.StartTask(w.ctx, w.as(triage1, policy.Secret{}), grant.TaskRequest{Envelope: []string{"browse", "browse"}})
	w.must(err)
	c := w.as(triage1, task.Credential)
	if len(task.Envelope) != 1 {
		t.Errorf("got %v", task.Envelope)
	}
	if _, err := w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "browse"}, 0); err != nil {
		t.Errorf("within it: %v", err)
	}
	var refused *policy.RequestError
	_, err = w.Request(w.ctx, c, grant.Request{Task: task.ID, Capability: "read-ticket", Params: ticket}, 0)
	if !errors.As(err, &refused) || refused.Code != policy.CodeOutsideEnvelope || refused.Field != "capability" {
		t.Errorf("outside: %v", err)
	}
	if n := len(w.lines(policy.CodeOutsideEnvelope)); n != 1 {
		t.Errorf("%d records of the refusal", n)
	}
	for _, names := range [][]string{{"other"}, {"browse", "nothing"}} {
		_, err = w.StartTask(w.ctx, c, grant.TaskRequest{Envelope: names})
		if !errors.As(err, &refused) || refused.Field != "envelope" {
			t.Errorf("%v: %v", names, err)
		}
	}
	w.reopen()
	w.cars.connect(triage1, false)
	_, err = w.Request(w.ctx, w.as(triage1, task.Credential), grant.Request{Task: task.ID, Capability: "read-ticket", Params: ticket}, 0)
	if !errors.As(err, &refused) || refused.Code != policy.CodeOutsideEnvelope {
		t.Errorf("outside, after a restart: %v", err)
	}
}

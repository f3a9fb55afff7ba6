package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
)

// granted gives a task with a grant that is ready, and the task's proof.
func (w world) granted(c *http.Client, body string) (server.StartedTask, server.Grant, []string) {
	w.T.Helper()
	var task server.StartedTask
	w.do(c, "POST", w.URL+"/v1/tasks", body).into(w.T, 201, &task)
	proof := []string{"Exeat-Task-Credential", task.Credential}
	var g server.Grant
	w.do(c, "POST", w.URL+"/v1/grants?wait=30s", `{"task":"`+task.ID+`","capability":"read-ticket","params":{"ticket":"OPS-42"}}`, proof...).into(w.T, 201, &g)
	return task, g, proof
}

func TestHeartbeatsPausesAndRenewals(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	task, g, proof := w.granted(c, `{"heartbeat":"10s","envelope":["read-ticket"]}`)
	if task.Heartbeat.String() != "10s" || task.HeartbeatBy.Sub(task.StartedAt).Seconds() != 20 || strings.Join(task.Envelope, " ") != "read-ticket" {
		t.Errorf("got %+v", task.Task)
	}
	var beaten server.Task
	w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/heartbeat", "", proof...).into(t, 200, &beaten)
	if beaten.ID != task.ID || beaten.HeartbeatBy.Before(task.HeartbeatBy) {
		t.Errorf("got %+v", beaten)
	}
	var next server.Grant
	w.do(c, "POST", w.URL+"/v1/grants/"+g.ID+"/renew?wait=30s", `{"ttl":"2m"}`, proof...).into(t, 201, &next)
	if next.Renews != g.ID || !next.Ready || next.ID == g.ID || next.Until.Sub(next.RequestedAt).Minutes() > 2 {
		t.Errorf("got %+v", next)
	}
	var r server.Receipt
	w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/pause", "", proof...).into(t, 200, &r)
	if r.Task.State != "paused" || !r.Ending.Enforced || r.Ending.Revision == 0 || len(r.Grants) != 2 || r.Grants[1].EndReason != "revoked" {
		t.Errorf("got %+v", r)
	}
	for _, while := range []struct{ path, code string }{
		{"/v1/grants/" + next.ID + "/renew", "paused"}, {"/v1/tasks/" + task.ID + "/heartbeat", ""}, {"/v1/tasks/" + task.ID + "/resume", ""},
	} {
		if a := w.do(c, "POST", w.URL+while.path, "", proof...); a.Code != while.code {
			t.Errorf("%s while paused: %s", while.path, a.body)
		}
	}
	if a := w.do(c, "POST", w.URL+"/v1/grants/"+next.ID+"/renew", "", proof...); a.status != 409 || a.Code != "ended" || !strings.Contains(a.Detail, "new one") {
		t.Errorf("renewing what ended: %s", a.body)
	}
	for _, path := range []string{"/v1/tasks/" + task.ID + "/heartbeat", "/v1/tasks/" + task.ID + "/pause", "/v1/tasks/" + task.ID + "/resume", "/v1/grants/" + g.ID + "/renew"} {
		if a := w.do(c, "POST", w.URL+path, ""); a.Code != "task_credential_required" {
			t.Errorf("%s without proof: %s", path, a.body)
		}
		if a := w.do(w.As(servertest.Writer), "POST", w.URL+path, "", proof...); a.Code != "not_found" {
			t.Errorf("%s by another agent: %s", path, a.body)
		}
	}
}

func TestWhatATaskCannotBeStartedWith(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	for body, want := range map[string]struct{ code, field string }{
		`{"heartbeat":"1s"}`:              {"invalid_request", "heartbeat"},
		`{"heartbeat":"2h"}`:              {"invalid_request", "heartbeat"},
		`{"heartbeat":"-5s"}`:             {"invalid_request", "heartbeat"},
		`{"envelope":[]}`:                 {"invalid_request", "envelope"}, // an empty list never means all
		`{"envelope":null}`:               {"invalid_json", "envelope"},
		`{"envelope":["other"]}`:          {"not_eligible", "envelope"},
		`{"envelope":["read-ticket",""]}`: {"not_eligible", "envelope"},
	} {
		a := w.do(c, "POST", w.URL+"/v1/tasks", body)
		if a.Code != want.code || len(a.Errors) == 0 || a.Errors[0].Field != want.field {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}

func TestAnAgentsPauseIsNotAPersons(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	task, _, proof := w.granted(c, `{}`)
	var r server.Receipt
	w.do(w.Operator(), "POST", local+"/v1/tasks/"+task.ID+"/pause", "").into(t, 200, &r)
	if !strings.HasPrefix(r.Task.PausedBy, "local/uid/") {
		t.Errorf("got %+v", r.Task)
	}
	if a := w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/resume", "", proof...); a.status != 403 || a.Code != "paused_by_other" {
		t.Errorf("got %s", a.body)
	}
	var back server.Task
	w.do(w.Operator(), "POST", local+"/v1/tasks/"+task.ID+"/resume", "").into(t, 200, &back)
	if back.State != "active" || back.PausedBy != "" {
		t.Errorf("got %+v", back)
	}
	if a := w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/heartbeat", "", proof...); a.status != 409 || a.Code != "no_heartbeat" {
		t.Errorf("got %s", a.body)
	}
}

func TestScopesAreRevokedAndFollowed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, op := w.As(servertest.Triage1), w.Operator()
	for path, want := range map[string]server.Revocation{
		"/v1/agents/triage/revoke":            {Scope: "agent", Name: "triage"},
		"/v1/owners/support/revoke":           {Scope: "owner", Name: "support"},
		"/v1/capabilities/read-ticket/revoke": {Scope: "capability", Name: "read-ticket"},
		"/v1/revoke-all":                      {Scope: "all"},
	} {
		_, g, proof := w.granted(c, `{}`)
		if a := w.do(c, "POST", w.URL+path, "", proof...); a.status != 403 || a.Code != "operator_required" {
			t.Errorf("%s by an agent: %s", path, a.body)
		}
		var r server.Revocation
		w.do(op, "POST", local+path+"?wait=1ms", "").into(t, 200, &r)
		if r.Scope != want.Scope || r.Name != want.Name || r.Grants != 1 || r.Instances != 1 || r.Ending.AcceptedAt.IsZero() {
			t.Errorf("%s: %+v", path, r)
		}
		var e server.Ending
		name := ""
		if want.Name != "" { // everything has none
			name = "&name=" + want.Name
		}
		w.do(op, "GET", local+"/v1/endings?wait=30s&scope="+want.Scope+name+"&revision="+itoa(r.Ending.Revision), "").into(t, 200, &e)
		if !e.Enforced || !e.AcceptedAt.Equal(r.Ending.AcceptedAt) || e.EnforcedAt.Before(e.AcceptedAt) {
			t.Errorf("%s: %+v of %+v", path, e, r.Ending)
		}
		var got server.Grant
		w.do(op, "GET", local+"/v1/grants/"+g.ID, "").into(t, 200, &got)
		if got.State != "ended" || got.EndReason != "revoked" {
			t.Errorf("%s: %+v", path, got)
		}
	}
	for path, code := range map[string]string{
		"/v1/agents/nobody/revoke": "not_found", "/v1/owners/%2Fnobody/revoke": "not_found", "/v1/agents/a%2Fb/revoke": "no_such_route",
		"/v1/owners/../revoke": "no_such_route", "/v1/owners//revoke": "no_such_route",
	} {
		if a := w.do(op, "POST", local+path, ""); a.status != 404 || a.Code != code {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	for _, query := range []string{"", "?scope=agent&name=triage", "?scope=nothing&revision=1", "?scope=all&revision=0", "?scope=all&revision=99999999"} {
		if a := w.do(op, "GET", local+"/v1/endings"+query, ""); a.status != 422 || a.Code != "invalid_request" {
			t.Errorf("%q: %d %s", query, a.status, a.body)
		}
	}
}

func TestASuspensionSaysWhoAndWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, op := w.As(servertest.Triage1), w.Operator()
	task, _, proof := w.granted(c, `{}`)
	var out struct {
		Agent      server.Agent
		Revocation server.Revocation
	}
	w.do(op, "POST", local+"/v1/agents/triage/suspend", `{"reason":"it read too much"}`).into(t, 200, &out)
	if out.Agent.State != "suspended" || out.Agent.Suspension.Reason != "it read too much" || out.Revocation.Grants != 1 || !out.Revocation.Ending.Enforced {
		t.Errorf("got %+v", out)
	}
	for path, body := range map[string]string{
		"/v1/tasks": `{}`, "/v1/grants": `{"task":"` + task.ID + `","capability":"read-ticket","params":{"ticket":"OPS-1"}}`,
	} {
		a := w.do(c, "POST", w.URL+path, body, proof...)
		if a.status != 403 || a.Code != "agent_suspended" || !strings.Contains(a.Detail, "Suspended by local/uid/") ||
			!strings.Contains(a.Detail, "(it read too much)") || !strings.Contains(a.Detail, "exeat agents resume triage") {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
	var one server.Agent
	w.do(c, "GET", w.URL+"/v1/agents/triage", "").into(t, 200, &one) // its own
	if one.State != "suspended" {
		t.Errorf("got %+v", one)
	}
	if a := w.do(c, "GET", w.URL+"/v1/agents/writer", ""); a.Code != "not_found" {
		t.Errorf("another's: %s", a.body)
	}
	for _, path := range []string{"/v1/agents/triage/suspend", "/v1/agents/triage/resume"} {
		if a := w.do(c, "POST", w.URL+path, ""); a.Code != "operator_required" {
			t.Errorf("%s by the agent: %s", path, a.body)
		}
	}
	w.do(op, "POST", local+"/v1/agents/triage/resume", "").into(t, 200, &one)
	var list struct{ Agents []server.Agent }
	w.do(op, "GET", local+"/v1/agents", "").into(t, 200, &list)
	if one.State != "active" || len(list.Agents) != 3 || list.Agents[1].Name != "triage" || list.Agents[1].Tasks != 0 {
		t.Errorf("got %+v, %+v", one, list)
	}
	w.granted(c, `{}`)
}

func TestGrantsAreListed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, op := w.As(servertest.Triage1), w.Operator()
	task, g, proof := w.granted(c, `{}`)
	_, ended, other := w.granted(c, `{}`)
	var gone server.EndedGrant
	w.do(c, "POST", w.URL+"/v1/grants/"+ended.ID+"/end", "", other...).into(t, 200, &gone)
	list := func(c *http.Client, url string, headers ...string) string {
		var out struct {
			Grants []server.Grant
			More   bool
		}
		w.do(c, "GET", url, "", headers...).into(t, 200, &out)
		var ids []string
		for _, g := range out.Grants {
			ids = append(ids, g.ID)
		}
		return strings.Join(ids, " ")
	}
	for what, got := range map[string][2]string{
		"the operator's":       {list(op, local+"/v1/grants"), g.ID},
		"with the ended":       {list(op, local+"/v1/grants?ended=true"), ended.ID + " " + g.ID},
		"of a task":            {list(op, local+"/v1/grants?ended=true&task="+task.ID), g.ID},
		"of another agent":     {list(op, local+"/v1/grants?ended=true&agent=writer"), ""},
		"the sidecar's":        {list(c, w.URL+"/v1/grants?ended=true"), ended.ID + " " + g.ID},
		"within the task":      {list(c, w.URL+"/v1/grants?ended=true", proof...), g.ID},
		"of another sidecar's": {list(w.As(servertest.Writer), w.URL+"/v1/grants?ended=true"), ""},
	} {
		if got[0] != got[1] {
			t.Errorf("%s: %q, want %q", what, got[0], got[1])
		}
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }

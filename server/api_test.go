package server_test

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
)

func TestTheStoryOfATask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	task := w.task(c)
	if task.Agent != "triage" || task.State != "active" || task.Claimed.Purpose != "look" || len(task.Credential) != 43 ||
		task.Instance != "spiffe://example.org"+servertest.Triage1 || task.Until.Sub(task.StartedAt).Minutes() != 10 {
		t.Fatalf("got %+v", task)
	}
	proof := []string{"Exeat-Task-Credential", task.Credential}

	var g server.Grant
	w.do(c, "POST", w.URL+"/v1/grants?wait=30s", `{"task":"`+task.ID+`","capability":"read-ticket","params":{"ticket":"OPS-42"},"ttl":"1m"}`, proof...).into(t, 201, &g)
	if !g.Ready || g.State != "active" || g.Params["ticket"] != "OPS-42" || g.Task != task.ID {
		t.Fatalf("got %+v", g)
	}
	w.do(c, "GET", w.URL+"/v1/grants/"+g.ID+"?wait=30s", "").into(t, 200, &g)

	var whole server.Task
	w.do(c, "GET", w.URL+"/v1/tasks/"+task.ID, "").into(t, 200, &whole)
	if len(whole.Grants) != 1 || whole.Grants[0].ID != g.ID {
		t.Errorf("got %+v", whole)
	}

	var ended server.EndedGrant
	w.do(c, "POST", w.URL+"/v1/grants/"+g.ID+"/end", "", proof...).into(t, 200, &ended)
	if ended.Grant.State != "ended" || ended.Grant.EndReason != "completed" || !ended.Ending.Enforced || ended.Ending.EnforcedAt.Before(ended.Ending.AcceptedAt) {
		t.Errorf("got %+v", ended)
	}

	var r server.Receipt
	w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/complete", "{}", proof...).into(t, 200, &r)
	if r.Task.State != "ended" || r.Task.EndReason != "completed" || !r.Ending.Enforced || len(r.Grants) != 1 || r.Calls.Allowed != 0 {
		t.Errorf("got %+v", r)
	}
	if a := w.do(c, "POST", w.URL+"/v1/grants", `{"task":"`+task.ID+`","capability":"read-ticket","params":{"ticket":"OPS-42"}}`, proof...); a.status != 409 || a.Code != "ended" {
		t.Errorf("after the end: %d %s", a.status, a.body)
	}
	if text := w.Logged.String(); strings.Contains(text, task.Credential) {
		t.Error("the log holds the task's credential")
	}
}

func TestAGrantThatIsNotReadyIs202(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage2) // no such sidecar is connected
	task := w.task(c)
	var g server.Grant
	w.do(c, "POST", w.URL+"/v1/grants?wait=50ms", `{"task":"`+task.ID+`","capability":"read-ticket","params":{"ticket":"OPS-42"}}`,
		"Exeat-Task-Credential", task.Credential).into(t, 202, &g)
	if g.Ready || g.State != "active" || g.Waiting != "sidecar_disconnected" || g.Detail == "" {
		t.Errorf("got %+v", g)
	}
}

func TestARoomProvesItsTask(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	task, other := w.task(c), w.task(c)
	if a := w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/complete", "", "Exeat-Task", other.ID); a.Code != "not_found" {
		t.Errorf("from another room: %s", a.body)
	}
	if a := w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/complete", "", "Exeat-Task", task.ID, "Exeat-Task", other.ID); a.Code != "malformed_header" {
		t.Errorf("from two rooms: %s", a.body)
	}
	var r server.Receipt
	w.do(c, "POST", w.URL+"/v1/tasks/"+task.ID+"/complete", "", "Exeat-Task", task.ID).into(t, 200, &r)
	// The operator has no rooms, whatever the request says.
	if a := w.do(w.Operator(), "POST", local+"/v1/tasks/"+other.ID+"/complete", "", "Exeat-Task", other.ID); a.Code != "sidecar_required" {
		t.Errorf("by the operator: %s", a.body)
	}
}

func TestOnlyTheSidecarOfAnAgentIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, r := range map[string]struct {
		client *http.Client
		status int
		code   string
	}{
		"no certificate":        {w.Nobody(), 401, "identity_required"},
		"the agent's own":       {w.As("/agent/triage"), 403, "use_sidecar"},
		"an unknown workload's": {w.As("/sidecar/unknown"), 403, "unknown_caller"},
		"the API server's":      {w.As("/exeat/api"), 403, "unknown_caller"},
		"the template's own":    {w.As("/sidecar/triage"), 403, "unknown_caller"},
		"one below an instance": {w.As("/sidecar/triage/1/2"), 403, "unknown_caller"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/v1/tasks", "/v1/capabilities", "/v1/sidecars", "/v1/tasks/t_01J00000000000000000000000"} {
				if a := w.do(r.client, "GET", w.URL+path, ""); a.status != r.status || a.Code != r.code || a.Detail == "" {
					t.Errorf("%s: %d %s", path, a.status, a.body)
				}
			}
			if a := w.do(r.client, "POST", w.URL+"/v1/tasks", "not JSON"); a.status != r.status || a.Code != r.code {
				t.Errorf("the body was looked at first: %d %s", a.status, a.body)
			}
		})
	}
}

func TestAnotherAgentsTaskIsNotThere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.As(servertest.Triage1))
	proof := []string{"Exeat-Task-Credential", task.Credential, "Exeat-Task", task.ID}
	for _, path := range []string{servertest.Writer, servertest.Triage2} {
		c := w.As(path)
		for _, id := range []string{task.ID, "t_01J00000000000000000000000"} {
			a := w.do(c, "GET", w.URL+"/v1/tasks/"+id, "", proof...)
			b := w.do(c, "POST", w.URL+"/v1/tasks/"+id+"/fail", "", proof...)
			g := w.do(c, "POST", w.URL+"/v1/grants", `{"task":"`+id+`","capability":"other"}`, proof...)
			if a.Code != "not_found" || string(a.body) != string(b.body) || string(a.body) != string(g.body) {
				t.Errorf("%s about %s:\n%s%s%s", path, id, a.body, b.body, g.body)
			}
		}
	}
}

func TestPublicDocumentsNeedNoCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, want := range map[string]struct{ contentType, body string }{
		"/jwks":                             {"application/jwk-set+json", `{"keys":[]}`},
		"/.well-known/openid-configuration": {"application/json", `{"issuer":"https://example.org"}`},
		"/openapi.json":                     {"application/vnd.oai.openapi+json;version=3.1", ""},
	} {
		a := w.do(w.Nobody(), "GET", w.URL+path, "")
		if a.status != 200 || a.header.Get("Content-Type") != want.contentType || want.body != "" && string(a.body) != want.body {
			t.Errorf("%s: %d %s %s", path, a.status, a.header, a.body)
		}
	}
	if a := w.do(w.Nobody(), "POST", w.URL+"/local/v1/sidecars", `{"agent":"triage"}`); a.Code != "no_such_route" {
		t.Errorf("the operator's route is there for everybody: %s", a.body)
	}
}

func TestTheOperatorSeesAllAndRevokes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, op := w.As(servertest.Triage1), w.Operator()
	task := w.task(c)
	var g server.Grant
	w.do(c, "POST", w.URL+"/v1/grants?wait=30s", `{"task":"`+task.ID+`","capability":"read-ticket","params":{"ticket":"OPS-1"}}`,
		"Exeat-Task-Credential", task.Credential).into(t, 201, &g)

	var tasks struct{ Tasks []server.Task }
	w.do(op, "GET", local+"/v1/tasks", "").into(t, 200, &tasks)
	if len(tasks.Tasks) != 1 || tasks.Tasks[0].ID != task.ID {
		t.Errorf("got %+v", tasks)
	}
	var cars struct{ Sidecars []server.Sidecar }
	w.do(op, "GET", local+"/v1/sidecars", "").into(t, 200, &cars)
	if len(cars.Sidecars) != 1 || cars.Sidecars[0].Agent != "triage" || cars.Sidecars[0].Version != "1.40" {
		t.Errorf("got %+v", cars)
	}
	var caps struct {
		Agent, Catalog string
		Capabilities   []server.Capability
	}
	w.do(op, "GET", local+"/v1/capabilities?agent=triage", "").into(t, 200, &caps)
	if len(caps.Capabilities) != 1 || caps.Capabilities[0].Name != "read-ticket" || !strings.Contains(string(caps.Capabilities[0].Schema), "[A-Z]+-[0-9]+") {
		t.Errorf("got %+v", caps)
	}
	var ended server.EndedGrant
	w.do(op, "POST", local+"/v1/grants/"+g.ID+"/revoke", "").into(t, 200, &ended)
	if ended.Grant.EndReason != "revoked" || !ended.Ending.Enforced {
		t.Errorf("got %+v", ended)
	}
	var r server.Receipt
	w.do(op, "POST", local+"/v1/tasks/"+task.ID+"/revoke", "").into(t, 200, &r)
	if r.Task.EndReason != "revoked" {
		t.Errorf("got %+v", r)
	}
	if a := w.do(op, "POST", local+"/v1/tasks", `{}`); a.Code != "sidecar_required" {
		t.Errorf("a task of the operator's: %s", a.body)
	}
	if a := w.do(op, "GET", local+"/v1/capabilities", ""); a.Code != "invalid_request" || a.Errors[0].Field != "agent" {
		t.Errorf("nobody's capabilities: %s", a.body)
	}
}

func TestASidecarEnrollsAsTheProcessThatAsks(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var e server.Enrollment
	w.do(w.Operator(), "POST", local+"/local/v1/sidecars", `{"agent":"triage"}`).into(t, 201, &e)
	if pid := <-w.Enrolled; pid != os.Getpid() {
		t.Errorf("enrolled %d, this is %d", pid, os.Getpid())
	}
	if e.Instance != "spiffe://example.org/sidecar/triage/new" || e.ClientEnv["TICKETS_API_KEY"] != "exeat" || e.WorkloadSocket != "/w" {
		t.Errorf("got %+v", e)
	}
	if a := w.do(w.Operator(), "POST", local+"/local/v1/sidecars", `{"agent":"nobody"}`); a.Code != "invalid_request" || a.Errors[0].Field != "agent" {
		t.Errorf("an unknown agent: %s", a.body)
	}
}

func TestDenialsWaitOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	task := w.task(c)
	for _, query := range []string{"", "?after=0", "?wait=20ms", "?after=7&wait=20ms"} {
		var out struct {
			Denials []server.Denial
			Next    int
		}
		w.do(c, "GET", w.URL+"/v1/tasks/"+task.ID+"/denials"+query, "").into(t, 200, &out)
		if out.Denials == nil || len(out.Denials) != 0 || out.Next != 0 {
			t.Errorf("%q: %+v", query, out)
		}
	}
}

func TestRequestsAreCountedByRoute(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	task := w.task(c)
	w.do(c, "GET", w.URL+"/v1/tasks/"+task.ID, "")
	w.do(c, "GET", w.URL+"/v1/nothing/"+task.ID, "")
	families, err := w.Registry.Gather()
	w.Must(err)
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetCounter().GetValue()
		}
	}
	for _, key := range []string{
		"exeat_api_requests_total 201 POST /v1/tasks", "exeat_api_requests_total 200 GET /v1/tasks/{id}", "exeat_api_requests_total 404 none",
	} {
		if got[key] != 1 {
			t.Errorf("%s is %v of %v", key, got[key], got)
		}
	}
}

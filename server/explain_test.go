package server_test

import (
	"testing"

	"github.com/exeat-dev/exeat/server"
	"github.com/exeat-dev/exeat/server/servertest"
)

const ticketCall = `"method":"GET","url":"https://tickets.example.org/v1/tickets/OPS-42?page=2"`

func TestExplainBeforeAndUnderAGrant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)

	var e server.Explained
	w.do(c, "POST", w.URL+"/v1/explain", `{"method":"GET","url":"https://tickets.example.org/v1/tickets/OPS-42"}`).into(t, 200, &e)
	if e.Agent != "triage" || len(e.Tasks) != 1 || e.Tasks[0].Task != "" || e.Tasks[0].Allowed || e.Tasks[0].Reason != "no_grant" ||
		len(e.Tasks[0].Next) == 0 || e.Tasks[0].Next[0].Capability != "read-ticket" {
		t.Fatalf("without a task: %+v", e)
	}

	task := w.task(c)
	proof := []string{"Exeat-Task-Credential", task.Credential}
	var g server.Grant
	w.do(c, "POST", w.URL+"/v1/grants?wait=30s", `{"task":"`+task.ID+`","capability":"read-ticket","params":{"ticket":"OPS-42"}}`, proof...).into(t, 201, &g)
	w.do(c, "POST", w.URL+"/v1/explain", `{`+ticketCall+`}`).into(t, 200, &e)
	if len(e.Tasks) != 1 || e.Tasks[0].Task != task.ID || e.Tasks[0].Reason != "query_not_granted" || e.Tasks[0].Grant != g.ID ||
		e.Call.URL != "https://tickets.example.org/v1/tickets/OPS-42" {
		t.Fatalf("with a query: %+v", e)
	}
	if l := e.Tasks[0].Grants; len(l) != 1 || l[0].Covers || l[0].Standing != "allowed" && l[0].Standing != "credential_unavailable" ||
		len(l[0].Rules) == 0 || l[0].Rules[0].Part != "query" || l[0].Rules[0].Want != "no parameter page" {
		t.Errorf("looked at %+v", l)
	}

	// The operator asks for anybody.
	w.do(w.Operator(), "POST", local+"/v1/explain", `{"agent":"triage",`+ticketCall+`}`).into(t, 200, &e)
	if len(e.Tasks) != 1 || e.Tasks[0].Task != task.ID {
		t.Errorf("the operator: %+v", e)
	}
}

func TestExplainTellsNothingOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	task := w.task(w.As(servertest.Triage1))
	for why, r := range map[string]struct {
		body   string
		status int
		code   string
	}{
		"another instance's task": {`{"task":"` + task.ID + `",` + ticketCall + `}`, 404, "not_found"},
		"no such task":            {`{"task":"t_01J00000000000000000000000",` + ticketCall + `}`, 404, "not_found"},
		"another agent":           {`{"agent":"writer",` + ticketCall + `}`, 404, "not_found"},
		"no URL":                  {`{"method":"GET","url":"tickets"}`, 422, "invalid_request"},
		"a dotted path":           {`{"method":"GET","url":"https://tickets.example.org/../x"}`, 422, "invalid_request"},
	} {
		if a := w.do(w.As(servertest.Triage2), "POST", w.URL+"/v1/explain", r.body); a.status != r.status || a.Code != r.code {
			t.Errorf("%s: %d %s", why, a.status, a.body)
		}
	}
	if a := w.do(w.Operator(), "POST", local+"/v1/explain", `{`+ticketCall+`}`); a.status != 422 {
		t.Errorf("the operator must say whose call it is: %d %s", a.status, a.body)
	}
}

func TestADecisionThatIsNotThereIsNotFound(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, id := range []string{"d_01J00000000000000000000000", "x", "d_%22"} {
		if a := w.do(w.As(servertest.Triage1), "GET", w.URL+"/v1/decisions/"+id, ""); a.status != 404 || a.Code != "not_found" && a.Code != "no_such_route" {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
}

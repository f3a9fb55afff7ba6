package server_test

import (
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/server/servertest"
)

// Every bad input has one answer, with its code, and that answer never holds
// what was sent.
func TestBadInputs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.As(servertest.Triage1)
	task := w.task(c)
	const secret = "s3cr3t-value"
	proof := []string{"Exeat-Task-Credential", task.Credential}
	deep := strings.Repeat(`{"a":`, 40) + `1` + strings.Repeat(`}`, 40)
	for name, r := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code, field        string
	}{
		"no body":                        {"POST", "/v1/tasks", "", nil, 400, "body_missing", ""},
		"not JSON":                       {"POST", "/v1/tasks", `type=` + secret, nil, 400, "invalid_json", ""},
		"a body that breaks off":         {"POST", "/v1/tasks", `{"claimed":{"purpose":"` + secret, nil, 400, "invalid_json", "claimed.purpose"},
		"a name twice":                   {"POST", "/v1/tasks", `{"type":"a","type":"` + secret + `"}`, nil, 400, "duplicate_key", "type"},
		"a name twice deeper":            {"POST", "/v1/tasks", `{"claimed":{"context":{"k":"1","k":"` + secret + `"}}}`, nil, 400, "duplicate_key", "claimed.context.k"},
		"broken UTF-8":                   {"POST", "/v1/tasks", "{\"type\":\"\xff" + secret + "\"}", nil, 400, "invalid_utf8", ""},
		"half a surrogate pair":          {"POST", "/v1/tasks", `{"type":"\ud800"}`, nil, 400, "invalid_utf8", "type"},
		"nesting too deep":               {"POST", "/v1/tasks", deep, nil, 400, "too_deep", strings.TrimSuffix(strings.Repeat("a.", 32), ".")},
		"something after the body":       {"POST", "/v1/tasks", `{"type":"a"} {"type":"` + secret + `"}`, nil, 400, "trailing_data", ""},
		"an unknown field":               {"POST", "/v1/tasks", `{"kind":"` + secret + `"}`, nil, 422, "invalid_request", "kind"},
		"an unknown field deeper":        {"POST", "/v1/tasks", `{"claimed":{"reason":"` + secret + `"}}`, nil, 422, "invalid_request", "claimed.reason"},
		"a name in another case":         {"POST", "/v1/tasks", `{"Type":"` + secret + `"}`, nil, 422, "invalid_request", "Type"},
		"a wrong type":                   {"POST", "/v1/tasks", `{"type":["` + secret + `"]}`, nil, 422, "invalid_request", "type"},
		"a number for a string":          {"POST", "/v1/tasks", `{"type":1e999}`, nil, 422, "invalid_request", ""},
		"an array":                       {"POST", "/v1/tasks", `["` + secret + `"]`, nil, 422, "invalid_request", ""},
		"null":                           {"POST", "/v1/tasks", `null`, nil, 400, "invalid_json", ""},
		"a duration that is none":        {"POST", "/v1/tasks", `{"timeout":"` + secret + `"}`, nil, 422, "invalid_request", "timeout"},
		"a duration below zero":          {"POST", "/v1/tasks", `{"timeout":"-5m"}`, nil, 422, "invalid_request", "timeout"},
		"a timeout that is too long":     {"POST", "/v1/tasks", `{"timeout":"25h"}`, nil, 422, "invalid_request", "timeout"},
		"a type that is not a name":      {"POST", "/v1/tasks", `{"type":"a b ` + secret + `"}`, nil, 422, "invalid_request", "type"},
		"a purpose that is too long":     {"POST", "/v1/tasks", `{"claimed":{"purpose":"` + strings.Repeat(secret, 200) + `"}}`, nil, 422, "invalid_request", "claimed.purpose"},
		"a body that is too large":       {"POST", "/v1/tasks", `{"type":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, "body_too_large", ""},
		"another content type":           {"POST", "/v1/tasks", `{}`, []string{"Content-Type", "", "Content-Type", "text/plain"}, 415, "unsupported_media_type", ""},
		"a form":                         {"POST", "/v1/tasks", `{}`, []string{"Content-Type", "", "Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported_media_type", ""},
		"no content type":                {"POST", "/v1/tasks", `{}`, []string{"Content-Type", ""}, 415, "unsupported_media_type", ""},
		"another charset":                {"POST", "/v1/tasks", `{}`, []string{"Content-Type", "", "Content-Type", "application/json; charset=utf-16"}, 415, "unsupported_media_type", ""},
		"two content types":              {"POST", "/v1/tasks", `{}`, []string{"Content-Type", "text/plain"}, 400, "malformed_header", ""},
		"a content encoding":             {"POST", "/v1/tasks", `{}`, []string{"Content-Encoding", "gzip"}, 415, "unsupported_media_type", ""},
		"a browser's Origin":             {"POST", "/v1/tasks", `{}`, []string{"Origin", "https://evil.example"}, 403, "browser_request", ""},
		"a browser's Sec-Fetch-Site":     {"POST", "/v1/tasks", `{}`, []string{"Sec-Fetch-Site", "same-origin"}, 403, "browser_request", ""},
		"two task credentials":           {"POST", "/v1/grants", `{}`, append([]string{"Exeat-Task-Credential", secret}, proof...), 400, "malformed_header", ""},
		"an unknown query parameter":     {"GET", "/v1/sidecars?" + secret + "=1", "", nil, 422, "invalid_request", "query." + secret},
		"a query parameter twice":        {"GET", "/v1/tasks/" + task.ID + "/denials?after=1&after=2", "", nil, 400, "malformed_query", "query.after"},
		"a broken query":                 {"GET", "/v1/sidecars?%zz", "", nil, 400, "malformed_query", ""},
		"a query that is no number":      {"GET", "/v1/tasks/" + task.ID + "/denials?after=" + secret, "", nil, 422, "invalid_request", "query.after"},
		"a wait that is no duration":     {"GET", "/v1/grants/g_1?wait=" + secret, "", nil, 422, "invalid_request", "query.wait"},
		"a body on a read":               {"GET", "/v1/sidecars", `{}`, nil, 400, "body_not_allowed", ""},
		"a body with fields on an end":   {"POST", "/v1/tasks/" + task.ID + "/complete", `{"reason":"` + secret + `"}`, proof, 422, "invalid_request", "reason"},
		"an unknown route":               {"GET", "/v1/" + secret, "", nil, 404, "no_such_route", ""},
		"a path that climbs":             {"GET", "/v1/x/../tasks", "", nil, 404, "no_such_route", ""},
		"a path with a double slash":     {"GET", "//v1/tasks", "", nil, 404, "no_such_route", ""},
		"a path with a slash at last":    {"GET", "/v1/tasks/", "", nil, 404, "no_such_route", ""},
		"an encoded slash":               {"GET", "/v1%2ftasks", "", nil, 404, "no_such_route", ""},
		"another method":                 {"DELETE", "/v1/tasks", "", nil, 405, "method_not_allowed", ""},
		"another method on an action":    {"GET", "/v1/tasks/" + task.ID + "/complete", "", nil, 405, "method_not_allowed", ""},
		"a task that is not there":       {"GET", "/v1/tasks/" + secret, "", nil, 404, "not_found", ""},
		"a task ID that is too long":     {"GET", "/v1/tasks/" + strings.Repeat(secret, 6), "", nil, 422, "invalid_request", "path.id"},
		"no proof":                       {"POST", "/v1/tasks/" + task.ID + "/complete", "", nil, 403, "task_credential_required", ""},
		"no proof of what is not there":  {"POST", "/v1/grants/g_1/end", "", nil, 403, "task_credential_required", ""},
		"a wrong proof":                  {"POST", "/v1/tasks/" + task.ID + "/complete", "", []string{"Exeat-Task-Credential", secret}, 404, "not_found", ""},
		"a revocation by an agent":       {"POST", "/v1/tasks/" + task.ID + "/revoke", "", proof, 403, "operator_required", ""},
		"a grant without a task":         {"POST", "/v1/grants", `{"capability":"read-ticket"}`, proof, 422, "invalid_request", ""},
		"a capability that is not there": {"POST", "/v1/grants", `{"task":"` + task.ID + `","capability":"` + secret + `"}`, proof, 403, "unknown_capability", "capability"},
		"a capability of another":        {"POST", "/v1/grants", `{"task":"` + task.ID + `","capability":"other"}`, proof, 403, "not_eligible", "capability"},
		"a parameter that does not fit":  {"POST", "/v1/grants", `{"task":"` + task.ID + `","capability":"read-ticket","params":{"ticket":"` + secret + `"}}`, proof, 403, "param_not_allowed", "params.ticket"},
		"a parameter that is missing":    {"POST", "/v1/grants", `{"task":"` + task.ID + `","capability":"read-ticket"}`, proof, 403, "missing_param", "params.ticket"},
		"a grant that lasts too long":    {"POST", "/v1/grants", `{"task":"` + task.ID + `","capability":"read-ticket","params":{"ticket":"OPS-1"},"ttl":"16m"}`, proof, 403, "ttl_too_long", "ttl"},
	} {
		t.Run(name, func(t *testing.T) {
			a := w.do(c, r.method, w.URL+r.path, r.body, r.headers...)
			if a.status != r.status || a.Code != r.code {
				t.Fatalf("%d %q, want %d %q: %s", a.status, a.Code, r.status, r.code, a.body)
			}
			if a.Problem.Status != r.status || a.Type != "https://exeat.dev/problems/"+r.code || a.Title == "" || a.Detail == "" {
				t.Errorf("not a whole problem: %s", a.body)
			}
			field := ""
			if len(a.Errors) > 0 {
				field = a.Errors[0].Field
			}
			if field != r.field {
				t.Errorf("about %q, want %q: %s", field, r.field, a.body)
			}
			if !strings.Contains(r.field, secret) && strings.Contains(string(a.body), secret) {
				t.Errorf("the answer holds what was sent: %s", a.body)
			}
		})
	}
	if text := w.Logged.String(); strings.Contains(text, secret) || strings.Contains(text, task.Credential) {
		t.Error("the log holds what was sent")
	}
}

func TestABrowserMayRead(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do(w.Nobody(), "GET", w.URL+"/jwks", "", "Sec-Fetch-Site", "none")
	if a.status != 200 {
		t.Errorf("status %d: %s", a.status, a.body)
	}
}

// Node.js's own fetch sends one of the headers that browsers send.
func TestNodeIsNoBrowser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if a := w.do(w.As(servertest.Triage1), "POST", w.URL+"/v1/tasks", `{}`, "Sec-Fetch-Mode", "cors"); a.status != 201 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

package server_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/exeat-dev/exeat/policy"
)

// document is what of OpenAPI 3.1 the tests look at.
type document struct {
	OpenAPI    string
	Info       struct{ Title, Version string }
	Paths      map[string]map[string]operation
	Components struct {
		Schemas         map[string]any
		SecuritySchemes map[string]any
	}
}

type operation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Parameters  []struct {
		Name, In string
		Required bool
		Schema   any
	}
	RequestBody *struct {
		Content map[string]struct{ Schema any }
	}
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema any }
	}
	Security []map[string][]string
	Verb     string `json:"x-exeat-verb"`
}

func (w world) document(raw []byte) document {
	w.T.Helper()
	var d document
	w.Must(json.Unmarshal(raw, &d))
	return d
}

var routes = []string{
	"post /v1/tasks", "get /v1/tasks", "get /v1/tasks/{id}", "post /v1/tasks/{id}/complete", "post /v1/tasks/{id}/fail",
	"post /v1/tasks/{id}/revoke", "get /v1/tasks/{id}/receipt", "get /v1/tasks/{id}/denials",
	"post /v1/grants", "get /v1/grants/{id}", "post /v1/grants/{id}/end", "post /v1/grants/{id}/revoke",
	"get /v1/approvals", "get /v1/approvals/{id}", "post /v1/approvals/{id}/approve", "post /v1/approvals/{id}/refuse", "get /v1/issuers",
	"get /v1/capabilities", "get /v1/sidecars", "post /v1/explain", "get /v1/decisions/{id}", "get /jwks", "get /.well-known/openid-configuration", "get /openapi.json",
}

func TestTheDocumentHasEveryRouteAndNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	public := w.document(w.do(w.Nobody(), "GET", w.URL+"/openapi.json", "").body)
	local := w.document(w.do(w.Operator(), "GET", local+"/openapi.json", "").body)
	for name, c := range map[string]struct {
		document
		routes []string
	}{
		"for everybody": {public, routes}, "for the operator": {local, append([]string{"post /local/v1/sidecars"}, routes...)},
	} {
		count := 0
		for _, methods := range c.Paths {
			count += len(methods)
		}
		if c.OpenAPI != "3.1.0" || c.Info.Title == "" || c.Info.Version == "" || count != len(c.routes) {
			t.Errorf("%s: %s with %d operations, want %d", name, c.OpenAPI, count, len(c.routes))
		}
		for _, route := range c.routes {
			method, path, _ := strings.Cut(route, " ")
			if _, ok := c.Paths[path][method]; !ok {
				t.Errorf("%s: %s is missing", name, route)
			}
		}
	}
}

// What OpenAPI 3.1 asks of a document, as far as ours can get it wrong.
func TestTheDocumentIsValid(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	raw := w.do(w.Nobody(), "GET", w.URL+"/openapi.json", "").body
	d := w.document(raw)
	ids := map[string]bool{}
	inPath := regexp.MustCompile(`\{(\w+)\}`)
	for path, methods := range d.Paths {
		for method, op := range methods {
			where := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] || op.Summary == "" {
				t.Errorf("%s: operation ID %q is missing or used twice, or there is no summary", where, op.OperationID)
			}
			ids[op.OperationID] = true
			declared := map[string]bool{}
			for _, p := range op.Parameters {
				if declared[p.In+p.Name] || p.Schema == nil || p.In == "path" && !p.Required {
					t.Errorf("%s: parameter %s", where, p.Name)
				}
				declared[p.In+p.Name] = true
			}
			for _, m := range inPath.FindAllStringSubmatch(path, -1) {
				if !declared["path"+m[1]] {
					t.Errorf("%s: %s is not declared", where, m[1])
				}
			}
			checkResponses(t, where, op)
			for _, s := range op.Security {
				for name := range s {
					if d.Components.SecuritySchemes[name] == nil {
						t.Errorf("%s: security scheme %s", where, name)
					}
				}
			}
		}
	}
	var anything any
	w.Must(json.Unmarshal(raw, &anything))
	checkRefs(t, "#", anything, d.Components.Schemas)
	closed := func(name string) bool {
		schema, _ := d.Components.Schemas[name].(map[string]any)
		v, has := schema["additionalProperties"].(bool)
		return has && !v
	}
	if !closed("StartTaskInputBody") || !closed("Claimed") || closed("Grant") || closed("Problem") {
		t.Error("requests must be closed to unknown fields, answers must not")
	}
	if _, old := d.Components.Schemas["ErrorModel"]; old {
		t.Error("huma's error, which holds values, is in the document")
	}
}

// Every route says what people need to be allowed for it, and one that changes
// something is never there for viewing.
func TestEveryRouteNamesItsVerb(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	d := w.document(w.do(w.Operator(), "GET", local+"/openapi.json", "").body)
	known := map[string]bool{"own": true, "public": true, "operator": true}
	for _, v := range policy.Verbs() {
		known[string(v)] = true
	}
	for path, methods := range d.Paths {
		for method, op := range methods {
			where := method + " " + path
			if !known[op.Verb] {
				t.Errorf("%s: the verb %q is none", where, op.Verb)
			}
			if method != "get" && path != "/v1/explain" && (op.Verb == "view" || op.Verb == "audit" || op.Verb == "public") {
				t.Errorf("%s changes something and needs only %s", where, op.Verb)
			}
			if (len(op.Security) == 0) != (op.Verb == "public" || op.Verb == "operator") {
				t.Errorf("%s: verb %s with security %v", where, op.Verb, op.Security)
			}
		}
	}
}

func checkResponses(t *testing.T, where string, op operation) {
	t.Helper()
	if _, ok := op.Responses["default"].Content["application/problem+json"]; !ok || len(op.Responses) < 2 {
		t.Errorf("%s: its problems are not described: %v", where, op.Responses)
	}
	for status, r := range op.Responses {
		if r.Description == "" || len(r.Content) == 0 {
			t.Errorf("%s: response %s has no description or content", where, status)
		}
	}
}

// checkRefs follows every $ref.
func checkRefs(t *testing.T, at string, v any, schemas map[string]any) {
	switch v := v.(type) {
	case map[string]any:
		if ref, ok := v["$ref"].(string); ok && schemas[strings.TrimPrefix(ref, "#/components/schemas/")] == nil {
			t.Errorf("%s: %s leads nowhere", at, ref)
		}
		for key, child := range v {
			checkRefs(t, at+"/"+key, child, schemas)
		}
	case []any:
		for _, child := range v {
			checkRefs(t, at, child, schemas)
		}
	}
}

package policy

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// fixtureJSON is the catalog that most tests stand on: the one of the design.
const fixtureJSON = `{
"destinations": [
  {"metadata": {"name": "tickets"}, "spec": {"hosts": ["tickets.example.org", "tickets.example.net"], "headers": ["X-Ticket-Version", "X-Trace-*"]}},
  {"metadata": {"name": "plain"}, "spec": {"hosts": ["plain.example.org"], "port": 80}},
  {"metadata": {"name": "files"}, "spec": {"hosts": ["a.files.example.org", "b.files.example.org"], "port": 8443, "addresses": ["127.0.0.1", "[::1]:9000"]}}
],
"providers": [
  {"metadata": {"name": "jwt"}, "spec": {"jwt": {"audience": "https://tickets.example.org", "ttl": "60s"}}},
  {"metadata": {"name": "key"}, "spec": {"static": {"header": {"name": "Authorization", "prefix": "Bearer ", "value": {"file": "key"}}}}}
],
"capabilities": [
  {"metadata": {"name": "read-ticket"}, "spec": {
    "params": {"project": {"pattern": "[A-Z]{2,5}"}, "ticket": {"pattern": "${project}-[0-9]+"}},
    "destination": "tickets",
    "calls": [
      {"method": "GET", "path": "/v1/tickets/${ticket}"},
      {"method": "GET", "path": "/v1/tickets/${ticket}/comments", "query": {"page": "[0-9]+"}}],
    "credential": {"provider": "jwt", "scope": {"scope": "ticket:read", "ticket": "${ticket}"}},
    "limits": {"ttl": "5m", "maxTTL": "15m"}}},
  {"metadata": {"name": "write-ticket"}, "spec": {
    "params": {"ticket": {"pattern": "[A-Z]+-[0-9]+"}},
    "destination": "tickets",
    "calls": [{"method": "POST", "path": "/v1/tickets/${ticket}/transitions", "body": "any"}],
    "credential": {"provider": "jwt", "scope": {"scope": "ticket:write", "ticket": "${ticket}"}}}},
  {"metadata": {"name": "browse"}, "spec": {
    "destination": "tickets",
    "calls": [{"method": "GET", "path": "/v1/**", "query": "any"}, {"method": "GET", "path": "/v1/tickets/*"}]}},
  {"metadata": {"name": "read-file"}, "spec": {
    "params": {"bucket": {"pattern": "[a-z]+"}, "name": {"pattern": "[^/]+"}, "reason": {"pattern": "[a-z]+"}},
    "destination": "files",
    "calls": [{"method": "GET", "host": "${bucket}.files.example.org", "path": "/objects/${name}.txt", "query": {"why": "${reason}"}}],
    "credential": {"provider": "key"}}}
],
"agents": [
  {"metadata": {"name": "triage"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/triage", "sidecarID": "spiffe://example.org/sidecar/triage/{instance}",
    "owner": {"groups": ["support"], "contact": "support@example.org"}, "environment": "production",
    "capabilities": [{"name": "read-ticket", "params": {"project": ["OPS", "SUP"]}}, {"name": "write-ticket"}, {"name": "read-file"}]}},
  {"metadata": {"name": "browser"}, "spec": {
    "spiffeID": "spiffe://example.org/agent/browser", "sidecarID": "spiffe://example.org/sidecar/browser",
    "owner": {"groups": ["support"], "contact": ""}, "taskBinding": "required",
    "capabilities": [{"name": "browse"}, {"name": "read-ticket"}]}}
]}`

func fixtureSet(t testing.TB) *v1alpha1.Set {
	t.Helper()
	return setOf(t, fixtureJSON)
}

func setOf(t testing.TB, text string) *v1alpha1.Set {
	t.Helper()
	set := new(v1alpha1.Set)
	if err := json.Unmarshal([]byte(text), set); err != nil {
		t.Fatal(err)
	}
	return set
}

func fixture(t testing.TB) *Catalog {
	t.Helper()
	cat, problems := Compile(fixtureSet(t))
	for _, p := range problems {
		t.Error(p)
	}
	if cat == nil {
		t.FailNow()
	}
	return cat
}

// call parses "METHOD URL", with a body when the method is POST.
func call(t testing.TB, method, url string) *Call {
	t.Helper()
	c, err := parseURL(method, url)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return &c
}

func parseURL(method, url string) (Call, error) {
	scheme, rest, _ := cut(url, "://")
	authority, target, _ := cut(rest, "/")
	return ParseCall(RawCall{Method: method, Scheme: scheme, Authority: authority, Target: "/" + target, HasBody: method == "POST", At: t0})
}

func cut(s, sep string) (string, string, bool) {
	for i := 0; i+len(sep) <= len(s); i++ {
		if s[i:i+len(sep)] == sep {
			return s[:i], s[i+len(sep):], true
		}
	}
	return s, "", false
}

const (
	g1 GrantID = "g_01J00000000000000000000001"
	g2 GrantID = "g_01J00000000000000000000002"
	g3 GrantID = "g_01J00000000000000000000003"
	t1 TaskID  = "t_01J00000000000000000000001"
)

// view is a task of agent with grants.
func view(agent string, held ...*Held) *TaskView {
	life := Life{State: Active, Began: t0, Activated: t0, Until: t0.Add(time.Hour)}
	v := &TaskView{Task: Task{ID: t1, Agent: agent, Life: life}, Held: held}
	for _, h := range held {
		h.Grant.Task, h.Grant.Agent = t1, agent
	}
	return v
}

// held is an active grant with its credential, for five minutes.
func held(t testing.TB, cat *Catalog, id GrantID, agent, capability string, params map[string]string) *Held {
	t.Helper()
	r, err := cat.Resolve(agent, capability, params)
	if err != nil {
		t.Fatal(err)
	}
	return &Held{
		Grant: Grant{ID: id, Capability: capability, Params: params, Destination: r.Destination.Name, Digest: r.Digest,
			Life: Life{State: Active, Began: t0, Activated: t0, Until: t0.Add(5 * time.Minute)}},
		MadeAt: 10, Floors: []*Floor{new(Floor)}, Resolved: r, Credential: &SealedCredential{Grant: id},
	}
}

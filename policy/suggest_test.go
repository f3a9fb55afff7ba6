package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDenialSaysWhatToAskFor(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	for _, tt := range []struct{ why, agent, method, url, want string }{
		{"a ticket is read out of the path, its project out of the ticket", "triage", "GET", ticketURL, "read-ticket project=OPS ticket=OPS-42"},
		{"the query must be listed", "triage", "GET", ticketURL + "/comments?page=1", "read-ticket project=OPS ticket=OPS-42"},
		{"else there is nothing to ask for", "triage", "GET", ticketURL + "/comments?limit=1", ""},
		{"nor for a value that does not fit", "triage", "GET", ticketURL + "/comments?page=x", ""},
		{"nor for a project outside the narrowing", "triage", "GET", "https://tickets.example.org/v1/tickets/DEV-1", ""},
		{"another agent may be wider", "browser", "GET", "https://tickets.example.org/v1/tickets/DEV-1", "read-ticket project=DEV ticket=DEV-1; browse"},
		{"the narrowest comes first", "browser", "GET", ticketURL, "read-ticket project=OPS ticket=OPS-42; browse"},
		{"the wide one alone where only it covers", "browser", "GET", ticketURL + "?x=1", "browse"},
		{"a body needs a rule that takes one", "triage", "POST", ticketURL + "/transitions", "write-ticket ticket=OPS-42"},
		{"no rule for the method", "triage", "DELETE", ticketURL, ""},
		{"what others may do is not told", "triage", "GET", "https://tickets.example.org/v1/x", ""},
		{"host and path give parameters, the query too", "triage", "GET", "https://a.files.example.org:8443/objects/x%20y.txt?why=audit", "read-file bucket=a name=x y reason=audit"},
		{"what the call does not say is left out", "triage", "GET", "https://a.files.example.org:8443/objects/x.txt", "read-file bucket=a name=x"},
		{"a host that the pattern does not give", "triage", "GET", "https://plain.example.org:80/objects/x.txt", ""},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			a, _ := cat.Agent(tt.agent)
			if got := words(cat.Suggest(a, call(t, tt.method, tt.url))); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	a, _ := cat.Agent("triage")
	if cat.Suggest(nil, call(t, "GET", ticketURL)) != nil || cat.Suggest(a, nil) != nil || cat.Suggest(a, new(Call)) != nil {
		t.Error("suggests for nothing")
	}
}

// words is a list of suggestions as one text, parameters in order.
func words(next []Next) string {
	var list []string
	for _, n := range next {
		s := n.Capability
		for _, name := range []string{"bucket", "name", "project", "reason", "ticket", "x", "y", "z"} {
			if v, ok := n.Params[name]; ok {
				s += " " + name + "=" + v
			}
		}
		list = append(list, s)
	}
	return strings.Join(list, "; ")
}

func TestParametersAreInferred(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ why, params, call, narrowed, url, want string }{
		{"two in one segment", `"x": {"pattern": "[a-z]+"}, "y": {"pattern": "[0-9]+"}`, `"path": "/${x}-${y}"`, "", "/ab-12", "cap x=ab y=12"},
		{"one twice, the same", `"x": {"pattern": "[a-z]+"}`, `"path": "/${x}/${x}"`, "", "/a/a", "cap x=a"},
		{"one twice, different", `"x": {"pattern": "[a-z]+"}`, `"path": "/${x}/${x}"`, "", "/a/b", ""},
		{"path and query that contradict", `"x": {"pattern": "[a-z]+"}`, `"path": "/${x}", "query": {"q": "${x}"}`, "", "/a?q=b", ""},
		{"path and query that agree", `"x": {"pattern": "[a-z]+"}`, `"path": "/${x}", "query": {"q": "${x}"}`, "", "/a?q=a", "cap x=a"},
		{"three deep", `"x": {"pattern": "[a-z]+"}, "y": {"pattern": "${x}-[0-9]+"}, "z": {"pattern": "v${y}"}`, `"path": "/${z}"`, "", "/vab-1", "cap x=ab y=ab-1 z=vab-1"},
		{"the only value that there is", `"x": {"pattern": "[a-z]+"}, "y": {"pattern": "[a-z]+"}`, `"path": "/${x}", "query": {"q": "${y}"}`, `"y": ["only"]`, "/a", "cap x=a y=only"},
		{"not one of two", `"x": {"pattern": "[a-z]+"}, "y": {"pattern": "[a-z]+"}`, `"path": "/${x}", "query": {"q": "${y}"}`, `"y": ["one", "two"]`, "/a", "cap x=a"},
		{"only within the narrowing", `"x": {"pattern": "[a-z]+"}`, `"path": "/${x}"`, `"x": ["a"]`, "/b", ""},
		{"a value that no parameter may have", `"x": {"pattern": ".+"}`, `"path": "/${x}x"`, "", "/x", ""},
		{"a host", `"x": {"pattern": "[a-z]"}`, `"host": "${x}.example", "path": "/"`, "", "/", "cap x=d"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			cat, problems := Compile(setOf(t, `{
				"destinations": [{"metadata": {"name": "d"}, "spec": {"hosts": ["d.example"]}}],
				"capabilities": [{"metadata": {"name": "cap"}, "spec": {"params": {`+tt.params+`}, "destination": "d", "calls": [{"method": "GET", `+tt.call+`}]}}],
				"agents": [{"metadata": {"name": "agent"}, "spec": {"spiffeID": "spiffe://td/a", "sidecarID": "spiffe://td/s",
					"owner": {"groups": ["g"], "contact": ""}, "capabilities": [{"name": "cap", "params": {`+tt.narrowed+`}}]}}]}`))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			a, _ := cat.Agent("agent")
			if got := words(cat.Suggest(a, call(t, "GET", "https://d.example"+tt.url))); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestAtMostThreeAreSuggested(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	for i := range 5 {
		c := set.Capabilities[2]
		c.Name = fmt.Sprintf("more-%d", i)
		set.Capabilities = append(set.Capabilities, c)
		e := set.Agents[1].Spec.Capabilities[0]
		e.Name = c.Name
		set.Agents[1].Spec.Capabilities = append(set.Agents[1].Spec.Capabilities, e)
	}
	cat, problems := Compile(set)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a, _ := cat.Agent("browser")
	if got := words(cat.Suggest(a, call(t, "GET", ticketURL+"?x=1"))); got != "browse; more-0; more-1" {
		t.Error(got)
	}
}

// Whatever is suggested whole resolves and covers the call that it was for.
func TestASuggestionCoversTheCall(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	rapid.Check(t, func(t *rapid.T) {
		pick := func(l string, from ...string) string { return rapid.SampledFrom(from).Draw(t, l) }
		host := pick("host", "tickets.example.org", "tickets.example.net", "a.files.example.org:8443", "b.files.example.org:8443")
		path := pick("root", "/v1/tickets/", "/objects/", "/v1/") + rapid.StringMatching(`[A-Z]{0,6}-?[0-9]{0,3}`).Draw(t, "name") +
			pick("tail", "", "/comments", ".txt", "/transitions", "?page=1", "/comments?page=2", ".txt?why=x")
		c, err := parseURL(pick("method", "GET", "POST"), "https://"+host+path)
		if err != nil {
			return
		}
		for _, name := range []string{"triage", "browser"} {
			a, _ := cat.Agent(name)
			for _, n := range cat.Suggest(a, &c) {
				e, _ := a.EligibleFor(n.Capability)
				if len(n.Params) < len(e.Capability.Params) {
					continue // the agent fills in the rest
				}
				r, err := cat.Resolve(name, n.Capability, n.Params)
				if err != nil || r.Match(&c) != Allowed {
					t.Fatalf("%+v for %s %s: %v, %v", n, c.Method, c.URL(), err, r.Match(&c))
				}
			}
		}
	})
}

func TestDenial(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	a, _ := cat.Agent("triage")
	c := call(t, "GET", "https://tickets.example.org/v1/tickets/OPS-43?token=s3cr3t")
	h := held(t, cat, g1, "triage", "read-ticket", ops42())
	got := string(NewDenial(Decide(cat, a, view("triage", h), call(t, "GET", "https://tickets.example.org/v1/tickets/OPS-43"), t0), "d_1", c, 0).ProblemJSON())
	want := `{"type":"https://exeat.dev/problems/call_not_granted","title":"No active grant covers this call","status":403,` +
		`"reason":"call_not_granted","decision":"d_1","call":{"method":"GET","url":"https://tickets.example.org/v1/tickets/OPS-43"},` +
		`"retry":"request_grant","next":[{"action":"request_grant","capability":"read-ticket","params":{"project":"OPS","ticket":"OPS-43"}}]}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestDenialStatus(t *testing.T) {
	t.Parallel()
	for r := Reason(0); r <= reasonCount; r++ {
		want, retry, after := 403, RetryNever, 0
		switch r {
		case NoGrant, CallNotGranted, QueryNotGranted, BodyNotGranted, GrantExpired, GrantEnded, UsesExhausted:
			retry = RetryRequestGrant
		case ApprovalPending:
			retry, after = RetryAfter, 2
		case RateLimited:
			want, retry, after = 429, RetryAfter, 2
		case MalformedCall:
			want = 400
		case Internal, Allowed, reasonCount, CredentialUnavailable, StateStale, AuditUnavailable, Overloaded:
			want, retry, after = 503, RetryAfter, 2
		}
		d := NewDenial(Decision{Reason: r}, "d_1", nil, 1500e6)
		var read Denial
		if err := json.Unmarshal(d.ProblemJSON(), &read); err != nil {
			t.Errorf("%v: %v", r, err)
		}
		if d.Status != want || d.Retry != retry || d.RetryAfter != after || d.Reason == Allowed || d.Call != nil || read.Reason != d.Reason {
			t.Errorf("%v: %+v", r, d)
		}
	}
	if d := NewDenial(Decision{Reason: StateStale}, "", new(Call), 0); d.RetryAfter != 1 || d.Call != nil {
		t.Errorf("%+v", d)
	}
}

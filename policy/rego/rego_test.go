package rego

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

var t0 = time.Date(2026, 3, 2, 10, 30, 0, 0, time.UTC) // a Monday

func module(path, source string) Module { return Module{Path: path, Source: source} }

func compiled(t testing.TB, sources ...string) *Engine {
	t.Helper()
	var modules []Module
	for i, s := range sources {
		modules = append(modules, module("policies/"+string(rune('a'+i))+".rego", s))
	}
	e, problems := Compile(modules)
	for _, p := range problems {
		t.Errorf("%s:%d: %s", p.Path, p.Line, p.Message)
	}
	if t.Failed() {
		t.FailNow()
	}
	return e
}

func issueInput() IssueInput {
	return IssueInput{
		Agent: Agent{Name: "triage", SPIFFEID: "spiffe://example.org/agent/triage", OwnerGroups: []string{"support"},
			Contact: "support@example.org", Environment: "production"},
		Capability: "read-ticket", Destination: "tickets", Params: map[string]string{"ticket": "OPS-42"},
		Risk: "low", Sensitivity: "internal", TTL: 5 * time.Minute, Task: "t_1", TaskType: "triage", TaskBegan: t0.Add(-time.Minute),
		Purpose: "look", Context: map[string]string{"ticket": "OPS-42"}, StartedBy: "spiffe://example.org/sidecar/triage/1",
		Time: t0, History: IssueHistory{Grants: 1, Share: 0.25, OwnerHour: 3},
	}
}

func callInput() *CallInput {
	return &CallInput{
		CallGround: CallGround{
			Agent: issueInput().Agent, Grant: "g_1", Capability: "read-ticket", Destination: "tickets",
			Params: map[string]string{"ticket": "OPS-42"}, Risk: "low", Sensitivity: "internal",
			Activated: t0.Add(-time.Minute), Until: t0.Add(time.Minute), Task: "t_1", TaskType: "triage", StartedBy: "someone",
		},
		Method: "GET", Scheme: "https", Host: "tickets.example.org", Port: 443, Path: "/v1/tickets/OPS-42",
		Segments: []string{"v1", "tickets", "OPS-42"}, Query: []Pair{{"page", "1"}, {"page", "2"}}, Time: t0,
		History: CallHistory{Sensitivities: []string{"public", "internal"}, Destinations: []string{"tickets"}, BytesOut: 17},
	}
}

func TestAnAbsentPackageHasNoSay(t *testing.T) {
	t.Parallel()
	for _, e := range []*Engine{nil, compiled(t)} {
		if v := e.Issue(t.Context(), issueInput()); !v.Allowed || v.TTL != 0 || v.Approval != nil {
			t.Errorf("issue: %+v", v)
		}
		if v := e.Call(t.Context(), callInput()); !v.Allowed {
			t.Errorf("call: %+v", v)
		}
		if v := e.Ground(CallGround{}).Call(t.Context(), callInput()); !v.Allowed {
			t.Errorf("ground: %+v", v)
		}
	}
}

func TestIssueAnswers(t *testing.T) {
	t.Parallel()
	const head = "package exeat.issue\n"
	for name, tc := range map[string]struct {
		source  string
		allowed bool
		rule    string
		says    string
	}{
		"allow":                   {"allow if input.risk == \"low\"", true, "", ""},
		"an empty package":        {"", false, "exeat.issue.allow", "no rule allows it"},
		"allow is undefined":      {"allow if input.risk == \"high\"", false, "exeat.issue.allow", "no rule allows it"},
		"allow is false":          {"default allow := false", false, "exeat.issue.allow", "no rule allows it"},
		"allow is another value":  {"allow := input.risk", false, "exeat.issue.allow", "neither true nor false"},
		"deny wins over allow":    {"allow := true\ndeny contains \"not today\" if input.environment == \"production\"", false, "exeat.issue.deny", "not today"},
		"a deny that is no text":  {"allow := true\ndeny contains 7", false, "exeat.issue.deny", "not text"},
		"a conflict":              {"allow := true if input.risk == \"low\"\nallow := false if input.environment == \"production\"", false, "exeat.issue.allow (policies/a.rego:3)", "contradict"},
		"a failing function":      {"allow := true\ndeny contains \"never\" if to_number(input.environment) > 1", false, "exeat.issue.deny (policies/a.rego:3)", "failed"},
		"a ttl that is none":      {"allow := true\nttl := \"soon\"", false, "exeat.issue.ttl", "duration"},
		"a negative ttl":          {"allow := true\nttl := \"-5m\"", false, "exeat.issue.ttl", "duration"},
		"maxUses of zero":         {"allow := true\nmaxUses := 0", false, "exeat.issue.maxUses", "above zero"},
		"maxUses that is text":    {"allow := true\nmaxUses := \"1\"", false, "exeat.issue.maxUses", "above zero"},
		"approval by nobody":      {"allow := true\napproval := {\"count\": 0}", false, "exeat.issue.approval", "object"},
		"approval misspelled":     {"allow := true\napproval := {\"group\": [\"leads\"]}", false, "exeat.issue.approval", "object"},
		"approvals nobody can do": {"allow := true\napproval contains {\"groups\": [\"a\"]}\napproval contains {\"groups\": [\"b\"]}", false, "exeat.issue.approval", "no group"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := compiled(t, head+tc.source).Issue(t.Context(), issueInput())
			if v.Allowed != tc.allowed || v.Rule != tc.rule || !strings.Contains(strings.Join(v.Messages, "; "), tc.says) {
				t.Errorf("got %+v", v)
			}
		})
	}
}

func TestIssueLowersAndDemands(t *testing.T) {
	t.Parallel()
	v := compiled(t, `package exeat.issue
allow := true
ttl contains "2m"
ttl contains "90s" if input.history.share24h > 0.2
maxUses contains 5
maxUses contains 3
approval contains {"count": 1, "groups": ["leads", "sre"], "stepUp": {"maxAge": "10m"}}
approval contains {"count": 2, "groups": ["sre", "security"], "stepUp": {"maxAge": "5m", "acr": "phr"}}
`).Issue(t.Context(), issueInput())
	if !v.Allowed || v.TTL != 90*time.Second || v.MaxUses != 3 {
		t.Errorf("got %+v", v)
	}
	if a := v.Approval; a == nil || a.Count != 2 || !slices.Equal(a.Groups, []string{"sre"}) || a.MaxAge != 5*time.Minute || a.ACR != "phr" {
		t.Errorf("approval %+v", v.Approval)
	}
}

func TestMessagesAreBoundedAndPrintable(t *testing.T) {
	t.Parallel()
	v := compiled(t, `package exeat.issue
allow := true
deny contains sprintf("%d \u001b[31m\u202e%s", [n, input.claimed.purpose]) if some n in numbers.range(1, 100)
`).Issue(t.Context(), IssueInput{Purpose: strings.Repeat("é", 400)})
	if v.Allowed || len(v.Messages) != maxMessages {
		t.Fatalf("%d messages", len(v.Messages))
	}
	for _, m := range v.Messages {
		if len(m) > maxMessage || strings.ContainsAny(m, "\x1b\u202e") {
			t.Errorf("message %q", m)
		}
	}
}

func TestABombIsStopped(t *testing.T) {
	t.Parallel()
	const bomb = ` if count([1 | some i in numbers.range(1, 5000); some j in numbers.range(1, 5000); i * j == 7919]) == 0`
	e := compiled(t, "package exeat.issue\nallow"+bomb, "package exeat.call\nallow"+bomb+"\ndeny contains \"x\" if input.call.host == \"x\"")
	began := time.Now()
	for _, v := range []Verdict{
		e.Issue(t.Context(), issueInput()).Verdict, e.Call(t.Context(), callInput()), e.Ground(callInput().CallGround).Call(t.Context(), callInput()),
	} {
		if v.Allowed || !slices.Equal(v.Messages, []string{"the policy took too long"}) {
			t.Errorf("got %+v", v)
		}
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestAnEndedContextDenies(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	e := compiled(t, "package exeat.issue\nallow := true")
	if v := e.Issue(ctx, issueInput()); v.Allowed {
		t.Errorf("got %+v", v)
	}
}

func TestCompileTellsAllThatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sources []string
		want    []string // path:line: a part of the message
	}{
		"syntax":                 {[]string{"package exeat.issue\nallow if", "package x\nimport"}, []string{"a.rego:2: unexpected", "b.rego:2: unexpected"}},
		"no package":             {[]string{"# nothing"}, []string{"a.rego:1: "}},
		"old syntax":             {[]string{"package exeat.issue\nallow { true }"}, []string{"a.rego:2: "}},
		"the network":            {[]string{"package exeat.issue\nallow if http.send({}).ok"}, []string{"a.rego:2: undefined function http.send"}},
		"an address":             {[]string{"package exeat.issue\nallow if net.lookup_ip_addr(\"x\")"}, []string{"undefined function net."}},
		"the clock":              {[]string{"package exeat.issue\nallow if time.now_ns() > 0"}, []string{"undefined function time.now_ns"}},
		"chance":                 {[]string{"package exeat.issue\nallow if rand.intn(\"x\", 2) == 0"}, []string{"undefined function rand.intn"}},
		"the environment":        {[]string{"package exeat.issue\nallow if opa.runtime().env"}, []string{"undefined function opa.runtime"}},
		"an unknown field":       {[]string{"package exeat.issue\nallow if input.rsik == \"low\""}, []string{"a.rego:2: undefined ref: input.rsik"}},
		"a call's field":         {[]string{"package exeat.issue\nallow if input.call.method == \"GET\""}, []string{"undefined ref: input.call"}},
		"a request's field":      {[]string{"package exeat.call\nallow if input.claimed.purpose == \"x\""}, []string{"undefined ref: input.claimed"}},
		"types":                  {[]string{"package exeat.call\nallow if startswith(input.call.port, \"4\")"}, []string{"a.rego:2: startswith: invalid argument"}},
		"an enum":                {[]string{"package exeat.issue\nallow if count(input.time) > 0"}, []string{"a.rego:2: count"}},
		"a misspelled package":   {[]string{"package exeat.isue\nallow := true"}, []string{"a.rego:1: there is no package exeat.isue"}},
		"below a package":        {[]string{"package exeat.issue.deny\nx := 1"}, []string{"there is no package exeat.issue.deny"}},
		"a stray":                {[]string{"package exeat.issue\nallow := true", "package issue\nallow := true"}, []string{"b.rego:1: neither"}},
		"a dangling reference":   {[]string{"package exeat.issue\nallow if data.tables.open"}, []string{"a.rego:2: nothing defines data.tables.open"}},
		"a missing rule":         {[]string{"package exeat.issue\nimport data.lib\nallow if lib.opn", "package lib\nopen := true"}, []string{"a.rego:3: nothing defines data.lib.opn"}},
		"a misspelled output":    {[]string{"package exeat.issue\nallow := true\nmax_uses := 1\ndenied contains \"x\""}, []string{"a.rego:3: exeat.issue has no output max_uses; want maxUses", "a.rego:4: exeat.issue has no output denied; want deny"}},
		"a deny that is no set":  {[]string{"package exeat.call\nallow := true\ndeny := \"x\" if input.call.port == 1"}, []string{"a.rego:3: deny is a single value"}},
		"an allow that is a set": {[]string{"package exeat.call\nallow contains \"x\""}, []string{"a.rego:2: allow is not a single value"}},
		"a rule named internal":  {[]string{"package exeat.issue\ninternal := {1}\nallow if 1 in internal"}, []string{"a.rego:3: no rule may be named"}},
		"two of one name":        {nil, nil},
		"recursion":              {[]string{"package exeat.issue\nallow if not allow"}, []string{"recursive"}},
		"unused":                 {[]string{"package exeat.issue\nallow if { x := 1; input.risk == \"low\" }"}, []string{"a.rego:2: assigned var x unused"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var modules []Module
			for i, s := range tc.sources {
				modules = append(modules, module(string(rune('a'+i))+".rego", s))
			}
			if tc.sources == nil {
				modules = []Module{module("a.rego", "package exeat.issue"), module("a.rego", "package exeat.call")}
				tc.want = []string{"a.rego:1: there is another module of this name"}
			}
			e, problems := Compile(modules)
			if e != nil || len(problems) == 0 {
				t.Fatalf("compiled: %v", problems)
			}
			var lines []string
			for _, p := range problems {
				lines = append(lines, p.Path+":"+json.Number(itoa(p.Line)).String()+": "+p.Message)
			}
			for _, want := range tc.want {
				if !slices.ContainsFunc(lines, func(l string) bool { return strings.Contains(l, want) }) {
					t.Errorf("want %q in\n%s", want, strings.Join(lines, "\n"))
				}
			}
		})
	}
}

func itoa(n int) string { b, _ := json.Marshal(n); return string(b) }

func TestALibraryIsShared(t *testing.T) {
	t.Parallel()
	e := compiled(t,
		"package exeat.issue\nimport data.company.hours\nallow if hours.open",
		"package exeat.call\nallow if data.company.hours.open",
		"package company.hours\nopen if { [h, _, _] := time.clock([input.time, \"Europe/Berlin\"]); h >= 9; h < 17 }",
	)
	for at, want := range map[time.Time]bool{t0: true, t0.Add(12 * time.Hour): false} {
		in, c := issueInput(), callInput()
		in.Time, c.Time = at, at
		if v := e.Issue(t.Context(), in); v.Allowed != want {
			t.Errorf("issue at %v: %+v", at, v)
		}
		if v := e.Call(t.Context(), c); v.Allowed != want {
			t.Errorf("call at %v: %+v", at, v)
		}
	}
}

func TestCapabilitiesHoldNothingThatReachesOut(t *testing.T) {
	t.Parallel()
	have := map[string]bool{}
	for _, b := range Capabilities().Builtins {
		have[b.Name] = true
		if b.Nondeterministic {
			t.Errorf("%s is not a function of its arguments", b.Name)
		}
		for _, p := range []string{"http.", "net.", "opa.", "rand.", "time.now", "uuid.", "providers.", "io.jwt", "crypto.x509", "rego.", "graphql.", "json.match", "json.verify"} {
			if strings.HasPrefix(b.Name, p) {
				t.Errorf("%s is there", b.Name)
			}
		}
	}
	for name := range strings.FieldsSeq(builtinNames) {
		if !have[name] {
			t.Errorf("OPA has no function %s", name)
		}
	}
}

// The inputs are what their schemas say, which is what policies are checked
// against.
func TestInputsFitTheirSchemas(t *testing.T) {
	t.Parallel()
	for name, input := range map[string]ast.Value{
		"issue": func() ast.Value { in := issueInput(); in.Approvers = []string{"ann"}; return in.value() }(),
		"empty": (&IssueInput{Risk: "low", Sensitivity: "public"}).value(),
		"call":  callInput().value(),
		"bare":  (&CallInput{Scheme: "http", CallGround: CallGround{Risk: "low", Sensitivity: "public"}}).value(),
	} {
		schema := issueText
		if name == "call" || name == "bare" {
			schema = callText
		}
		plain, err := ast.JSON(input)
		if err != nil {
			t.Fatal(err)
		}
		rs, err := rego.New(rego.Query("x := json.match_schema(input.doc, input.schema)"),
			rego.Input(map[string]any{"doc": plain, "schema": string(schema)})).Eval(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := rs[0].Bindings["x"].([]any); got[0] != true {
			t.Errorf("%s: %v", name, got[1])
		}
	}
}

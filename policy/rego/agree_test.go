package rego

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/open-policy-agent/opa/v1/rego"
	"pgregory.net/rapid"
)

// atoms are conditions of generated policies: on the grant, on the call, on
// both, and on what fails.
var atoms = []string{
	`input.grant.capability == "read"`, `input.grant.risk != "low"`, `input.environment == "production"`,
	`input.grant.params.ticket == "OPS-1"`, `"support" in input.owner.groups`, `input.task.type == "triage"`,
	`input.call.method == "GET"`, `input.call.host == sprintf("%s.example.org", [input.grant.params.ticket])`,
	`input.call.segments[0] == input.grant.destination`, `input.history.highestSensitivity == "restricted"`,
	`"tickets" in input.history.destinations`, `count(input.call.query) > 0`, `some v in input.call.query.page; v == "1"`,
	`not helper`, `helper`, `f(input.call.path)`, `g(input.grant.capability) == "r"`, `input.body.json.x == 1`,
	`input.grant.params.absent == "x"`,
	`level > 1`, `count(names) > 1`, `every s in input.call.segments { s != "secret" }`, `input.history.bytesOut > 10`,
	`time.weekday(input.time) == "Monday"`, `input.grant.until > input.time`, `table[input.grant.capability].open`,
	`data.lib.inner(input.call.host)`, `data.lib.wanted`, `not data.lib.wanted`,
}

// failing are conditions on functions that fail for some inputs.
var failing = []string{
	`to_number(input.grant.params.ticket) > 0`, `to_number(input.call.host) > 0`, `not to_number(input.call.host) < 0`,
	`time.parse_rfc3339_ns(input.call.path) > 0`,
}

const library = `package lib

inner(host) if endswith(host, ".example.org")

default wanted := false

wanted if input.grant.capability in {"read", "write"}

wanted if input.call.method == "HEAD"
`

// generated is a policy of rules with few conditions each, so that conflicts,
// failures and defaults meet.
func generated(t *rapid.T, atoms []string) string {
	var b strings.Builder
	b.WriteString("package exeat.call\n\n")
	condition := func(label string) string {
		parts := rapid.SliceOfNDistinct(rapid.SampledFrom(atoms), 1, 3, rapid.ID).Draw(t, label)
		return " if { " + strings.Join(parts, "; ") + " }\n"
	}
	plain := func(label string) string { // without the helpers, which must not call themselves
		return " if { " + rapid.SampledFrom(atoms[:13]).Draw(t, label) + " }\n"
	}
	if rapid.Bool().Draw(t, "default") {
		b.WriteString("default allow := false\n")
	}
	for range rapid.IntRange(0, 3).Draw(t, "allows") {
		b.WriteString("allow" + rapid.SampledFrom([]string{"", " := true", " := false", " := 1"}).Draw(t, "value") + condition("allow"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "denies") {
		message := rapid.SampledFrom([]string{`"no"`, `input.call.host`, `sprintf("%s %s", [input.grant.capability, input.call.method])`}).Draw(t, "message")
		b.WriteString("deny contains " + message + condition("deny"))
	}
	b.WriteString("helper" + plain("helper"))
	if rapid.Bool().Draw(t, "else") {
		b.WriteString("level := 2" + plain("level") + "else := 3" + plain("else"))
	} else {
		b.WriteString("level := 2" + plain("level") + "level := 1" + plain("level"))
	}
	b.WriteString("names contains \"a\"" + plain("names") + "names contains input.call.method" + plain("names"))
	b.WriteString("f(path) if startswith(path, \"/v1\")\n")
	b.WriteString("g(x) := \"r\" if x == \"read\"\ng(x) := \"w\" if x != \"read\"\n")
	b.WriteString("table := {\"read\": {\"open\": true}, \"write\": {\"open\": false}}\n")
	return b.String()
}

func generatedInput(t *rapid.T) *CallInput {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	in := &CallInput{
		CallGround: CallGround{
			Agent: Agent{Name: "triage", OwnerGroups: []string{pick("owner", "support", "sre")}, Environment: pick("env", "production", "test")},
			Grant: pick("grant", "g_1", "g_2"), Capability: pick("capability", "read", "write", "delete"), Destination: pick("destination", "tickets", "files"),
			Params: map[string]string{"ticket": pick("ticket", "OPS-1", "7")}, Risk: pick("risk", "low", "high"), Sensitivity: "internal",
			Activated: t0, Until: t0.Add(time.Minute), Task: "t_1", TaskType: pick("type", "triage", "other"),
		},
		Method: pick("method", "GET", "POST", "HEAD"), Scheme: "https", Host: pick("host", "OPS-1.example.org", "7.example.org", "evil.test", "9"), Port: 443,
		Path: pick("path", "/v1/x", "/v2/x"), Segments: []string{pick("segment", "tickets", "secret"), "x"}, Time: t0.Add(time.Duration(rapid.IntRange(0, 48).Draw(t, "hours")) * time.Hour),
	}
	if rapid.Bool().Draw(t, "query") {
		in.Query = []Pair{{"page", pick("page", "1", "2")}}
	}
	if rapid.Bool().Draw(t, "history") {
		in.History = CallHistory{Sensitivities: []string{"public", pick("sensitivity", "internal", "restricted")}, Destinations: []string{pick("to", "tickets", "files")}, BytesOut: 20}
	}
	return in
}

// Partial and full evaluation agree, in every word.
func TestPartialEvaluationAgreesWithFull(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		eachVerdict(t, atoms, func(e *Engine, in *CallInput, full, partial Verdict) {
			if !reflect.DeepEqual(full, partial) {
				t.Fatalf("full %+v, partial %+v\n%s", full, partial, in.value())
			}
		})
	})
}

// Where functions fail, partial evaluation may skip one whose outcome cannot
// matter. It allows nothing that would not be allowed whatever they gave.
func TestPartialEvaluationAllowsNoMoreWhereFunctionsFail(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		eachVerdict(t, append(slices.Clone(failing), atoms[:16]...), func(e *Engine, in *CallInput, full, partial Verdict) {
			if full.Allowed == partial.Allowed {
				return
			}
			failed := slices.Contains(full.Messages, "a function in the policy failed")
			if full.Allowed || !failed || !e.lenient(t, in) {
				t.Fatalf("full %+v, partial %+v\n%s", full, partial, in.value())
			}
		})
	})
}

// lenient is what a call's verdict would be if a function that fails were
// undefined.
func (e *Engine) lenient(t *rapid.T, in *CallInput) bool {
	rs, err := rego.New(rego.Query("x = data.exeat.call"), rego.Compiler(e.call.compiler), rego.ParsedInput(in.value())).Eval(context.Background())
	if err != nil || len(rs) != 1 {
		t.Fatalf("%v, %v", rs, err)
	}
	result := rs[0].Bindings["x"].(map[string]any)
	denials, _ := result["deny"].([]any)
	return result["allow"] == true && len(denials) == 0
}

// eachVerdict compares verdicts of a generated policy on generated calls.
func eachVerdict(t *rapid.T, atoms []string, check func(e *Engine, in *CallInput, full, partial Verdict)) {
	source := generated(t, atoms)
	t.Log(source)
	modules := []Module{{"policies/call.rego", source}}
	if strings.Contains(source, "data.lib.") {
		modules = append(modules, Module{"policies/lib.rego", library})
	}
	e, problems := Compile(modules)
	if len(problems) > 0 {
		t.Fatalf("%+v\n%s", problems, source)
	}
	for range 8 {
		in := generatedInput(t)
		check(e, in, e.Call(t.Context(), in), e.Ground(in.CallGround).Call(t.Context(), in))
	}
}

// What depends on the grant alone costs no evaluation per call.
func TestAKnownVerdictIsNotEvaluatedAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		source string
		known  bool
		rest   bool
	}{
		"the grant allows":         {`allow if input.grant.capability == "read-ticket"`, true, false},
		"the grant does not":       {`allow if input.grant.capability == "write-ticket"`, true, false},
		"the grant is denied":      {"allow := true\ndeny contains \"no\" if input.environment == \"production\"", true, false},
		"a set that stays empty":   {"allow := true\ndeny contains \"no\" if input.environment == \"test\"", true, false},
		"the call decides":         {`allow if input.call.method == "GET"`, false, true},
		"only the call can deny":   {"allow := true\ndeny contains \"no\" if input.call.method == \"POST\"", false, true},
		"a part is replaced":       {"ok if input.call.method == \"GET\"\nallow if ok with input.call.method as \"GET\"", false, false},
		"the input as a whole":     {`allow if count(input) > 3`, false, false},
		"the known part conflicts": {"allow := true if input.grant.risk == \"low\"\nallow := false if input.environment == \"production\"", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := compiled(t, "package exeat.call\n"+tc.source)
			in := callInput()
			g := e.Ground(in.CallGround)
			if full, got := e.Call(t.Context(), in), g.Call(t.Context(), in); !reflect.DeepEqual(full, got) {
				t.Errorf("full %+v, partial %+v", full, got)
			}
			r := e.partial.slot(g.key).of
			if (r.verdict != nil) != tc.known || (r.query != nil) != tc.rest {
				t.Errorf("verdict %+v, a rest is left: %v", r.verdict, r.query != nil)
			}
		})
	}
}

func TestGrantsOfOneKindShareWhatIsEvaluated(t *testing.T) {
	t.Parallel()
	e := compiled(t, "package exeat.call\nallow if { input.grant.capability == \"read-ticket\"; input.call.method == \"GET\" }")
	a, b := callInput().CallGround, callInput().CallGround
	b.Grant, b.Params, b.Until = "g_2", map[string]string{"ticket": "OPS-43"}, t0.Add(time.Hour)
	if e.Ground(a).key != e.Ground(b).key {
		t.Error("two grants that differ in nothing the policy reads are evaluated twice")
	}
	b.Capability = "other"
	if e.Ground(a).key == e.Ground(b).key {
		t.Error("two grants that differ in what the policy reads are one")
	}
}

func BenchmarkCall(b *testing.B) {
	e := compiled(b, `package exeat.call
allow if { input.grant.capability in {"read-ticket", "browse"}; input.call.method == "GET" }
deny contains "nothing leaves after restricted data was read" if { input.history.highestSensitivity == "restricted"; not endswith(input.call.host, ".example.org") }
`)
	in := callInput()
	g := e.Ground(in.CallGround)
	b.Run("full", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !e.Call(b.Context(), in).Allowed {
				b.Fatal("denied")
			}
		}
	})
	b.Run("partial", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !g.Call(b.Context(), in).Allowed {
				b.Fatal("denied")
			}
		}
	})
}

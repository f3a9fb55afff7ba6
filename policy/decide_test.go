package policy

import "testing"

func TestMainPath(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	agent, _ := cat.Agent("triage")
	h := held(t, cat, g1, "triage", "read-ticket", map[string]string{"project": "OPS", "ticket": "OPS-42"})
	d := Decide(cat, agent, view("triage", h), call(t, "GET", "https://tickets.example.org/v1/tickets/OPS-42"), t0)
	if !d.Allowed() || d.Held != h {
		t.Fatalf("%+v", d)
	}
	d = Decide(cat, agent, view("triage", h), call(t, "GET", "https://tickets.example.org/v1/tickets/SUP-1"), t0)
	t.Logf("%s", NewDenial(d, "d_1", call(t, "GET", "https://tickets.example.org/v1/tickets/SUP-1?x=1"), 0).ProblemJSON())
	if d.Allowed() || len(d.Next) != 1 {
		t.Fatalf("%+v", d)
	}
	src, err := EncodeSet(fixtureSet(t))
	if err != nil {
		t.Fatal(err)
	}
	set, err := DecodeSet(src)
	if err != nil {
		t.Fatal(err)
	}
	again, problems := Compile(set)
	if len(problems) > 0 || again.Revision() != cat.Revision() {
		t.Fatal(problems, again.Revision(), cat.Revision())
	}
}

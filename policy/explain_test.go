package policy

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestExplainNamesTheFirstPartThatFails(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	read := held(t, cat, g1, "triage", "read-ticket", ops42())
	for _, tt := range []struct {
		why          string
		method, url  string
		part, wanted string
	}{
		{"what is covered lacks nothing", "GET", ticketURL, "", ""},
		{"another method", "DELETE", ticketURL, "method", "GET"},
		{"another ticket", "GET", "https://tickets.example.org/v1/tickets/OPS-43", "path", "segment 3: OPS-42"},
		{"a shorter path", "GET", "https://tickets.example.org/v1/tickets", "path", "at least 3 segments: /v1/tickets/OPS-42"},
		{"a longer path", "GET", ticketURL + "/history", "path", "3 segments: /v1/tickets/OPS-42"},
		{"a parameter that is not listed", "GET", ticketURL + "?page=2", "query", "no parameter page"},
		{"another destination", "GET", "https://a.files.example.org:8443/objects/x.txt", "host", "a host of tickets"},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			e := Explain(cat, triage, view("triage", read), call(t, tt.method, tt.url), t0)
			if len(e.Looked) != 1 || len(e.Looked[0].Rules) != 2 || e.Looked[0].Standing != Allowed {
				t.Fatalf("%+v", e)
			}
			if r := e.Looked[0].Rules[0]; r.Rule != "GET /v1/tickets/OPS-42" || r.Part != tt.part || r.Want != tt.wanted {
				t.Errorf("%+v", r)
			}
		})
	}
	comments := ticketURL + "/comments"
	for url, want := range map[string]string{comments + "?page=x": "page as [0-9]+", comments + "?page=1&page=2": "page once"} {
		if r := Explain(cat, triage, view("triage", read), call(t, "GET", url), t0).Looked[0].Rules[1]; r.Part != "query" || r.Want != want {
			t.Errorf("%s: %+v", url, r)
		}
	}
	body, err := ParseCall(RawCall{Method: "GET", Scheme: "https", Authority: "tickets.example.org", Target: "/v1/tickets/OPS-42", HasBody: true})
	if err != nil {
		t.Fatal(err)
	}
	if r := Explain(cat, triage, view("triage", read), &body, t0).Looked[0].Rules[0]; r.Part != "body" {
		t.Errorf("%+v", r)
	}
}

func TestExplainLooksAtWhatStands(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	over := ended(held(t, cat, g1, "triage", "read-ticket", ops42()), EndRevoked)
	gone := with(held(t, cat, g3, "triage", "read-ticket", ops42()), func(h *Held) { h.Resolved = nil })
	write := held(t, cat, g2, "triage", "write-ticket", map[string]string{"ticket": "OPS-42"})
	e := Explain(cat, triage, view("triage", write, gone, over), call(t, "GET", ticketURL), t0)
	if len(e.Looked) != 3 || e.Looked[0].Grant != g1 || e.Looked[0].Standing != GrantEnded || e.Looked[0].Covers ||
		e.Looked[1].Standing != Allowed || e.Looked[2].Standing != GrantEnded || e.Looked[2].Rules != nil {
		t.Errorf("%+v", e.Looked)
	}
	if e.Reason != GrantEnded || e.Grant != g1 || len(e.Next) != 1 || e.Next[0].Capability != "read-ticket" {
		t.Errorf("%+v", e)
	}
	named := call(t, "GET", ticketURL)
	named.GrantID = g2
	if e := Explain(cat, triage, view("triage", write, over), named, t0); len(e.Looked) != 1 || e.Looked[0].Grant != g2 {
		t.Errorf("a call that names its grant was held against others: %+v", e.Looked)
	}
}

func TestExplainWithoutATaskSaysWhatWouldBeNeeded(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	e := Explain(cat, triage, nil, call(t, "GET", ticketURL), t0)
	if e.Reason != NoGrant || len(e.Next) != 1 || e.Next[0].Params["ticket"] != "OPS-42" {
		t.Errorf("%+v", e)
	}
	if e := Explain(cat, triage, nil, call(t, "GET", "https://elsewhere.example/"), t0); e.Reason != UnknownDestination || e.Next != nil {
		t.Errorf("%+v", e)
	}
	if e := Explain(cat, triage, nil, nil, t0); e.Reason != MalformedCall {
		t.Errorf("%+v", e)
	}
	if e := Explain(nil, nil, nil, call(t, "GET", ticketURL), t0); e.Reason == Allowed {
		t.Errorf("%+v", e)
	}
}

// An explanation that contradicts the decision is worse than none.
func TestExplainAgreesWithDecide(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	rapid.Check(t, func(rt *rapid.T) {
		url := "https://" + rapid.SampledFrom([]string{"tickets.example.org", "tickets.example.net", "a.files.example.org:8443", "x.example"}).Draw(rt, "host") +
			rapid.SampledFrom([]string{"/", "/v1/tickets/OPS-42", "/v1/tickets/OPS-43", "/v1/tickets/OPS-42/comments", "/v1/tickets/OPS-42/transitions"}).Draw(rt, "path") +
			rapid.SampledFrom([]string{"", "?page=1", "?page=x", "?page=1&page=2", "?other"}).Draw(rt, "query")
		c, err := parseURL(rapid.SampledFrom([]string{"GET", "POST", "DELETE"}).Draw(rt, "method"), url)
		if err != nil {
			rt.Fatal(err)
		}
		var hs []*Held
		for i, id := range []GrantID{g1, g2, g3} {
			if !rapid.Bool().Draw(rt, "held") {
				continue
			}
			capability, params := "read-ticket", ops42()
			if i == 1 {
				capability, params = "write-ticket", map[string]string{"ticket": "OPS-42"}
			}
			h := held(t, cat, id, "triage", capability, params)
			if rapid.Bool().Draw(rt, "ended") {
				h = ended(h, EndCompleted)
			}
			hs = append(hs, h)
		}
		now := t0.Add(time.Duration(rapid.IntRange(0, 10).Draw(rt, "minutes")) * time.Minute)
		v := view("triage", hs...)
		d, e := Decide(cat, triage, v, &c, now), Explain(cat, triage, v, &c, now)
		covered := false
		for _, l := range e.Looked {
			covered = covered || l.Covers
			whole := false
			for _, r := range l.Rules {
				whole = whole || r.Part == ""
			}
			if l.Covers != (whole && l.Standing == Allowed) {
				rt.Fatalf("%+v", l)
			}
		}
		if e.Reason != d.Reason || covered != d.Allowed() || d.Held != nil && e.Grant != d.Held.Grant.ID {
			rt.Fatalf("decided %v, explained %+v", d.Reason, e)
		}
	})
}

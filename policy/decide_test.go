package policy

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const ticketURL = "https://tickets.example.org/v1/tickets/OPS-42"

func ops42() map[string]string { return map[string]string{"project": "OPS", "ticket": "OPS-42"} }

// ended gives a grant that ended for a reason.
func ended(h *Held, why EndReason) *Held {
	h.Grant.Life, _ = Transition(h.Grant.Life, End(why), t0)
	return h
}

func with(h *Held, change func(*Held)) *Held {
	change(h)
	return h
}

func TestDecide(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	browser, _ := cat.Agent("browser")
	read := func() *Held { return held(t, cat, g1, "triage", "read-ticket", ops42()) }
	write := func() *Held { return held(t, cat, g2, "triage", "write-ticket", map[string]string{"ticket": "OPS-42"}) }
	browse := func() *Held { return held(t, cat, g3, "browser", "browse", nil) }
	named := func(id GrantID, c *Call) *Call { c.GrantID = id; return c }
	get := func(url string) *Call { return call(t, "GET", url) }
	late := t0.Add(5 * time.Minute)
	life := func(v *TaskView, l Life) *TaskView { v.Task.Life = l; return v }

	for _, tt := range []struct {
		why   string
		agent *Agent
		view  *TaskView
		call  *Call
		now   time.Time
		want  Reason
		held  GrantID
	}{
		{"a covered call leaves", triage, view("triage", read()), get(ticketURL), t0, Allowed, g1},
		{"in the last nanosecond too", triage, view("triage", read()), get(ticketURL), late.Add(-1), Allowed, g1},
		{"on any host of the destination", triage, view("triage", read()), get("https://tickets.example.net/v1/tickets/OPS-42"), t0, Allowed, g1},
		{"with a query that is listed", triage, view("triage", read()), get(ticketURL + "/comments?page=2"), t0, Allowed, g1},
		{"by name", triage, view("triage", write(), read()), named(g1, get(ticketURL)), t0, Allowed, g1},

		{"no call is malformed", triage, view("triage", read()), nil, t0, MalformedCall, ""},
		{"so is one that was not parsed", triage, view("triage", read()), &Call{Method: "GET"}, t0, MalformedCall, ""},
		{"no agent", nil, view("triage", read()), get(ticketURL), t0, UnknownAgent, ""},
		{"an agent of no name", &Agent{}, view("", read()), get(ticketURL), t0, UnknownAgent, ""},
		{"no task", triage, nil, get(ticketURL), t0, UnknownTask, ""},
		{"the zero task", triage, new(TaskView), get(ticketURL), t0, UnknownTask, ""},
		{"another agent's task", browser, view("triage", read()), get(ticketURL), t0, UnknownTask, ""},
		{"a task that ended", triage, life(view("triage", read()), Life{State: Ended, End: EndCompleted}), get(ticketURL), t0, GrantEnded, ""},
		{"a task that expired", triage, view("triage", read()), get(ticketURL), t0.Add(time.Hour), GrantExpired, ""},
		{"a task whose expiry is recorded", triage, life(view("triage", read()), Life{State: Ended, End: EndExpired}), get(ticketURL), t0, GrantExpired, ""},
		{"a task that is paused", triage, life(view("triage", read()), Life{State: Paused, Until: late}), get(ticketURL), t0, GrantEnded, ""},
		{"a task whose heartbeat is lost", triage, life(view("triage", read()), Life{State: Active, Until: late, BeatBy: t0}), get(ticketURL), t0, GrantEnded, ""},
		{"a task whose heartbeat is yet to come", triage, life(view("triage", read()), Life{State: Active, Until: late, BeatBy: t0.Add(1)}), get(ticketURL), t0, Allowed, g1},
		{"a task that has not begun", triage, life(view("triage", read()), Begin(t0, late)), get(ticketURL), t0, UnknownTask, ""},
		{"a host outside the catalog", triage, view("triage", read()), get("https://evil.example/"), t0, UnknownDestination, ""},
		{"another port of the host", triage, view("triage", read()), get("https://tickets.example.org:444/v1/tickets/OPS-42"), t0, UnknownDestination, ""},
		{"plain text to a TLS destination", triage, view("triage", read()), get("http://tickets.example.org:443/v1/tickets/OPS-42"), t0, UnknownDestination, ""},
		{"TLS to a plain destination", triage, view("triage", read()), get("https://plain.example.org:80/"), t0, UnknownDestination, ""},
		{"no grants at all", triage, view("triage"), get(ticketURL), t0, NoGrant, ""},
		{"grants for elsewhere only", triage, view("triage", read()), get("https://a.files.example.org:8443/objects/x.txt"), t0, NoGrant, ""},
		{"another path", triage, view("triage", read()), get("https://tickets.example.org/v1/tickets/OPS-43"), t0, CallNotGranted, g1},
		{"the path continued", triage, view("triage", read()), get(ticketURL + "/history"), t0, CallNotGranted, g1},
		{"the path with a slash", triage, view("triage", read()), get(ticketURL + "/"), t0, CallNotGranted, g1},
		{"another method", triage, view("triage", read()), call(t, "DELETE", ticketURL), t0, CallNotGranted, g1},
		{"the method in lower case", triage, view("triage", read()), call(t, "get", ticketURL), t0, CallNotGranted, g1},
		{"a query where none is listed", triage, view("triage", read()), get(ticketURL + "?page=2"), t0, QueryNotGranted, g1},
		{"another query parameter", triage, view("triage", read()), get(ticketURL + "/comments?limit=2"), t0, QueryNotGranted, g1},
		{"a value that does not fit", triage, view("triage", read()), get(ticketURL + "/comments?page=2x"), t0, QueryNotGranted, g1},
		{"a value that is empty", triage, view("triage", read()), get(ticketURL + "/comments?page="), t0, QueryNotGranted, g1},
		{"a parameter twice", triage, view("triage", read()), get(ticketURL + "/comments?page=2&page=3"), t0, QueryNotGranted, g1},
		{"a body where none is", triage, view("triage", read()), with1(get(ticketURL), func(c *Call) { c.HasBody = true }), t0, BodyNotGranted, g1},
		{"the closest reason is given", triage, view("triage", write(), read()), get(ticketURL + "?x=1"), t0, QueryNotGranted, g1},

		{"a grant at its end", triage, view("triage", read()), get(ticketURL), late, GrantExpired, g1},
		{"a grant whose expiry is recorded", triage, view("triage", ended(read(), EndExpired)), get(ticketURL), t0, GrantExpired, g1},
		{"a grant that was revoked", triage, view("triage", ended(read(), EndRevoked)), get(ticketURL), t0, GrantEnded, g1},
		{"a grant under a raised floor", triage, view("triage", with(read(), func(h *Held) { h.Floors[0].Raise(11) })), get(ticketURL), t0, GrantEnded, g1},
		{"a grant made after the floor", triage, view("triage", with(read(), func(h *Held) { h.Floors[0].Raise(10) })), get(ticketURL), t0, Allowed, g1},
		{"a grant without floors", triage, view("triage", with(read(), func(h *Held) { h.Floors = nil })), get(ticketURL), t0, GrantEnded, g1},
		{"a grant that the catalog gives no more", triage, view("triage", with(read(), func(h *Held) { h.Resolved = nil })), get(ticketURL), t0, GrantEnded, g1},
		{"a grant that the catalog gives otherwise", triage, view("triage", with(read(), func(h *Held) { h.Grant.Digest = "x" })), get(ticketURL), t0, GrantEnded, g1},
		{"a grant without a digest", triage, view("triage", with(read(), func(h *Held) { h.Grant.Digest, h.Resolved = "", &Resolved{} })), get(ticketURL), t0, NoGrant, ""},
		{"a grant that awaits approval", triage, view("triage", with(read(), func(h *Held) { h.Grant.State = Pending })), get(ticketURL), t0, ApprovalPending, g1},
		{"a grant without a state", triage, view("triage", with(read(), func(h *Held) { h.Grant.Life = Life{} })), get(ticketURL), t0, GrantEnded, g1},
		{"a grant without its credential", triage, view("triage", with(read(), func(h *Held) { h.Credential = nil })), get(ticketURL), t0, CredentialUnavailable, g1},
		{"a grant with another's credential", triage, view("triage", with(read(), func(h *Held) { h.Credential.Grant = g2 })), get(ticketURL), t0, CredentialUnavailable, g1},
		{"a grant that needs no credential", browser, view("browser", with(browse(), func(h *Held) { h.Credential = nil })), get(ticketURL + "?x=1"), t0, Allowed, g3},
		{"an ended grant for something else", triage, view("triage", ended(write(), EndRevoked)), get(ticketURL), t0, NoGrant, ""},
		{"an ended one beside a live one that lacks", triage, view("triage", ended(read(), EndRevoked), write()), get(ticketURL), t0, GrantEnded, g1},
		{"a nil grant in the list", triage, view2(view("triage", read()), nil), get(ticketURL), t0, Allowed, g1},
		{"a grant of another task", triage, view2(view("triage"), with(read(), func(h *Held) { h.Grant.Task, h.Grant.Agent = "t_x", "triage" })), get(ticketURL), t0, NoGrant, ""},
		{"a grant of another agent", triage, view2(view("triage"), with(read(), func(h *Held) { h.Grant.Task, h.Grant.Agent = t1, "browser" })), get(ticketURL), t0, NoGrant, ""},

		{"a named grant that is not there", triage, view("triage", read()), named(g2, get(ticketURL)), t0, NoGrant, ""},
		{"a named grant that does not cover", triage, view("triage", read(), write()), named(g2, get(ticketURL)), t0, CallNotGranted, g2},
		{"a named grant that ended, beside one that covers", triage, view("triage", read(), ended(write(), EndRevoked)), named(g2, get(ticketURL)), t0, GrantEnded, g2},
	} {
		t.Run(tt.why, func(t *testing.T) {
			t.Parallel()
			d := Decide(cat, tt.agent, tt.view, tt.call, tt.now)
			if d.Reason != tt.want || d.Held == nil && tt.held != "" || d.Held != nil && d.Held.Grant.ID != tt.held {
				t.Errorf("%v under %+v, want %v", d.Reason, d.Held, tt.want)
			}
			if d.Allowed() != (tt.want == Allowed) || d.Allowed() && d.Next != nil {
				t.Errorf("%+v", d)
			}
		})
	}
}

// A renewal is taken before what it renews, in whichever order they are held.
func TestARenewalIsTakenBeforeWhatItRenews(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	old := held(t, cat, g2, "triage", "read-ticket", ops42())
	next := with(held(t, cat, g1, "triage", "read-ticket", ops42()), func(h *Held) { h.Grant.Renews, h.Grant.Until = g2, t0.Add(time.Hour) })
	for _, v := range []*TaskView{view("triage", old, next), view("triage", next, old)} {
		if d := Decide(cat, triage, v, call(t, "GET", ticketURL), t0); d.Held.Grant.ID != g1 {
			t.Errorf("took %s", d.Held.Grant.ID)
		}
	}
}

// What a task cannot ask for is not suggested to it.
func TestSuggestionsStayWithinTheTask(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	for _, tt := range []struct {
		why    string
		change func(*Task)
		next   int
	}{
		{"any task", func(*Task) {}, 1},
		{"one whose envelope has it", func(k *Task) { k.Envelope = []string{"read-ticket"} }, 1},
		{"one whose envelope has it not", func(k *Task) { k.Envelope = []string{"read-file"} }, 0},
		{"a paused one", func(k *Task) { k.State = Paused }, 0},
	} {
		v := view("triage")
		tt.change(&v.Task)
		if d := Decide(cat, triage, v, call(t, "GET", ticketURL), t0); d.Allowed() || len(d.Next) != tt.next {
			t.Errorf("%s: %+v", tt.why, d)
		}
	}
}

func with1(c *Call, change func(*Call)) *Call {
	change(c)
	return c
}

func view2(v *TaskView, h *Held) *TaskView {
	v.Held = append(v.Held, h)
	return v
}

func TestNothingAtAllDenies(t *testing.T) {
	t.Parallel()
	if (Decision{}).Allowed() || (Decision{Reason: Allowed}).Allowed() {
		t.Error("a decision without a grant allows")
	}
	if d := Decide(nil, nil, nil, nil, time.Time{}); d.Allowed() {
		t.Error("nothing allows")
	}
	cat := fixture(t)
	a, _ := cat.Agent("triage")
	h := held(t, cat, g1, "triage", "read-ticket", ops42())
	if d := Decide(nil, a, view("triage", h), call(t, "GET", ticketURL), t0); d.Allowed() {
		t.Error("no catalog allows")
	}
	c := call(t, "GET", ticketURL)
	for _, r := range []*Resolved{nil, {}, {Destination: h.Resolved.Destination}, {Destination: h.Resolved.Destination, rules: make([]bound, 2)}} {
		if got := r.Match(c); got == Allowed {
			t.Errorf("%+v allows", r)
		}
	}
	if h.Resolved.Match(nil) != MalformedCall || h.Resolved.Match(new(Call)) != MalformedCall {
		t.Error("no call matches")
	}
	var m matcher
	if m.match("") || m.match("x") {
		t.Error("the zero matcher matches")
	}
}

func TestNarrowestGrantIsTaken(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	browser, _ := cat.Agent("browser")
	wide := held(t, cat, g1, "browser", "browse", nil)
	exact := held(t, cat, g3, "browser", "read-ticket", ops42())
	twin := held(t, cat, g2, "browser", "read-ticket", ops42())
	decide := func(c *Call, hs ...*Held) GrantID {
		d := Decide(cat, browser, view("browser", hs...), c, t0)
		if !d.Allowed() {
			t.Fatalf("%+v", d)
		}
		return d.Held.Grant.ID
	}
	c := call(t, "GET", ticketURL)
	for _, order := range [][]*Held{{wide, exact}, {exact, wide}} {
		if got := decide(c, order...); got != g3 {
			t.Errorf("took %s, not the one for this ticket", got)
		}
	}
	if got := decide(c, exact, twin); got != g2 {
		t.Errorf("took %s of two alike, not the lower", got)
	}
	exact.Grant.Until = exact.Grant.Until.Add(-time.Minute)
	if got := decide(c, twin, exact); got != g3 {
		t.Errorf("took %s, not the one that ends first", got)
	}
	exact.Credential, twin.Credential = nil, nil
	if got := decide(c, twin, exact, wide); got != g1 {
		t.Errorf("took %s, which cannot serve", got)
	}
}

func TestTheLastGrantSpeaksForItsLike(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	first := ended(held(t, cat, g1, "triage", "read-ticket", ops42()), EndRevoked)
	second := held(t, cat, g2, "triage", "read-ticket", ops42())
	second.MadeAt = 20
	for _, order := range [][]*Held{{first, second}, {second, first}} {
		d := Decide(cat, triage, view("triage", order...), call(t, "GET", ticketURL), t0.Add(10*time.Minute))
		if d.Reason != GrantExpired || d.Held.Grant.ID != g2 {
			t.Errorf("%v", d)
		}
	}
}

func TestNoCallMatchesAnEndedOrExpiredGrantAtAnyClock(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	h := held(t, cat, g1, "triage", "read-ticket", ops42())
	c := call(t, "GET", ticketURL)
	rapid.Check(t, func(t *rapid.T) {
		at := func(name string) time.Time {
			return time.Unix(0, rapid.Int64Range(0, math.MaxInt64).Draw(t, name))
		}
		g := *h
		g.Grant.Life = Life{
			State: State(rapid.IntRange(0, 6).Draw(t, "state")), Began: at("began"), Until: at("until"), EndedAt: at("ended"),
			End: rapid.SampledFrom([]EndReason{"", EndExpired, EndRevoked}).Draw(t, "end"),
		}
		now := at("now")
		v := view("triage", &g)
		v.Task.Until = time.Unix(0, math.MaxInt64).Add(1)
		d := Decide(cat, triage, v, c, now)
		live := g.Grant.State == Active && now.Before(g.Grant.Until)
		if d.Allowed() != live {
			t.Fatalf("%v at %v under %+v", d.Reason, now, g.Grant.Life)
		}
		v.Task.Life = g.Grant.Life
		g.Grant.Life = Life{State: Active, Until: time.Unix(0, math.MaxInt64).Add(1)}
		if d := Decide(cat, triage, v, c, now); d.Allowed() != live {
			t.Fatalf("%v at %v in task %+v", d.Reason, now, v.Task.Life)
		}
	})
}

// Not parallel: allocations of other tests would be counted.
func TestAllowAllocatesNothing(t *testing.T) {
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	hs := []*Held{
		held(t, cat, g2, "triage", "write-ticket", map[string]string{"ticket": "OPS-42"}),
		held(t, cat, g1, "triage", "read-ticket", ops42()),
	}
	v := view("triage", hs...)
	for why, c := range map[string]*Call{
		"a literal path":                 call(t, "GET", ticketURL),
		"a query by expression":          call(t, "GET", ticketURL+"/comments?page=12"),
		"a grant by name":                with1(call(t, "GET", ticketURL), func(c *Call) { c.GrantID = g1 }),
		"encoded and in another letters": call(t, "GET", "https://Tickets.Example.org/v1/tickets/%4FPS-42"),
	} {
		allowed := true
		n := testing.AllocsPerRun(500, func() { allowed = allowed && Decide(cat, triage, v, c, t0).Allowed() })
		if n != 0 || !allowed {
			t.Errorf("%s: %v allocations, allowed %v", why, n, allowed)
		}
	}
	id := "spiffe://example.org/sidecar/triage/pod-1"
	if n := testing.AllocsPerRun(500, func() { _, _ = cat.AgentBySidecar(id) }); n != 0 {
		t.Errorf("finding the agent: %v allocations", n)
	}
}

func BenchmarkDecide(b *testing.B) {
	cat := fixture(b)
	triage, _ := cat.Agent("triage")
	v := view("triage", held(b, cat, g1, "triage", "read-ticket", ops42()))
	c := call(b, "GET", ticketURL+"/comments?page=12")
	b.ReportAllocs()
	for b.Loop() {
		if d := Decide(cat, triage, v, c, t0); !d.Allowed() {
			b.Fatal(d)
		}
	}
}

func TestReasonsAreOneClosedList(t *testing.T) {
	t.Parallel()
	want := []string{"internal", "allowed", "no_grant", "unknown_agent", "unknown_task", "agent_suspended", "unknown_destination",
		"call_not_granted", "query_not_granted", "body_not_granted", "grant_expired", "grant_ended", "approval_pending", "uses_exhausted",
		"replayed", "rate_limited", "policy_denied", "credential_unavailable", "malformed_call", "state_stale", "audit_unavailable", "overloaded"}
	var got []string
	for r := Reason(0); r < reasonCount; r++ {
		got = append(got, r.String())
		parsed, ok := ParseReason(r.String())
		var read Reason
		text, _ := r.MarshalText()
		if !ok || parsed != r || read.UnmarshalText(text) != nil || read != r || r.Title() == "" {
			t.Errorf("%v does not read back, or has no title", r)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	out := Reason(200)
	if out.String() != "internal" || out.Title() != Internal.Title() || out.UnmarshalText([]byte("yes")) == nil {
		t.Error("what is no reason is taken for one")
	}
}

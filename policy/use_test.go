package policy

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

func TestDecideOnSpentGrants(t *testing.T) {
	t.Parallel()
	cat := fixture(t)
	triage, _ := cat.Agent("triage")
	read := func(id GrantID, change func(*Held)) *Held {
		return with(held(t, cat, id, "triage", "read-ticket", ops42()), change)
	}
	spent := func(h *Held) { h.Grant.MaxUses, h.Use.Used = 2, 2 }
	left := func(h *Held) { h.Grant.MaxUses, h.Use.Used = 2, 1 }
	named := func(id GrantID) *Call { return with1(call(t, "GET", ticketURL), func(c *Call) { c.GrantID = id }) }
	for _, tt := range []struct {
		why  string
		view *TaskView
		call *Call
		want Reason
		held GrantID
	}{
		{"with uses left", view("triage", read(g1, left)), call(t, "GET", ticketURL), Allowed, g1},
		{"with none left", view("triage", read(g1, spent)), call(t, "GET", ticketURL), UsesExhausted, g1},
		{"uses count without a limit", view("triage", read(g1, func(h *Held) { h.Use.Used = 9 })), call(t, "GET", ticketURL), Allowed, g1},
		{"another grant covers the call", view("triage", read(g1, spent), read(g2, left)), call(t, "GET", ticketURL), Allowed, g2},
		{"but not when it is named", view("triage", read(g1, spent), read(g2, left)), named(g1), UsesExhausted, g1},
		{"one that waits for its credential is closer", view("triage", read(g1, spent), read(g2, func(h *Held) { h.Credential = nil })),
			call(t, "GET", ticketURL), CredentialUnavailable, g2},
		{"one that has ended is not", view("triage", read(g1, spent), ended(read(g2, left), EndRevoked)), call(t, "GET", ticketURL), UsesExhausted, g1},
		{"and what it does not cover is told", view("triage", read(g1, spent)), call(t, "GET", ticketURL+"?x=1"), QueryNotGranted, g1},
		{"it expires as others do", view("triage", read(g1, func(h *Held) { spent(h); h.Grant.Until = t0 })), call(t, "GET", ticketURL), GrantExpired, g1},
		{"a record that cannot be read leaves nothing", view("triage", read(g1, func(h *Held) { h.Grant.MaxUses, h.Use = 9, UsedUp() })),
			call(t, "GET", ticketURL), UsesExhausted, g1},
		{"the same call again", view("triage", read(g1, func(h *Held) { spent(h); h.Use.Recent = []RecentUse{{ID: "u1"}} })),
			with1(call(t, "GET", ticketURL), func(c *Call) { c.UseID = "u1" }), Allowed, g1},
		{"another call", view("triage", read(g1, func(h *Held) { spent(h); h.Use.Recent = []RecentUse{{ID: "u1"}} })),
			with1(call(t, "GET", ticketURL), func(c *Call) { c.UseID = "u2" }), UsesExhausted, g1},
	} {
		d := Decide(cat, triage, tt.view, tt.call, t0)
		if d.Reason != tt.want || d.Held == nil || d.Held.Grant.ID != tt.held {
			t.Errorf("%s: %s by %+v, want %s by %s", tt.why, d.Reason, d.Held, tt.want, tt.held)
		}
		if d.Reason == UsesExhausted && len(d.Next) == 0 {
			t.Errorf("%s: it does not say what to ask for", tt.why)
		}
	}
}

func TestBytesAreALimitOfTheCapability(t *testing.T) {
	t.Parallel()
	set := fixtureSet(t)
	set.Capabilities[0].Spec.Limits.Bytes = ptr(100)
	cat, problems := Compile(set)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	triage, _ := cat.Agent("triage")
	h := held(t, cat, g1, "triage", "read-ticket", ops42())
	for bytes, want := range map[int64]Reason{0: Allowed, 99: Allowed, 100: UsesExhausted} {
		h.Use.Bytes = bytes
		if d := Decide(cat, triage, view("triage", h), call(t, "GET", ticketURL), t0); d.Reason != want {
			t.Errorf("after %d bytes: %s, want %s", bytes, d.Reason, want)
		}
	}
}

func ptr(n int64) *int64 { return &n }

func limits(fn func(*v1alpha1.Limits)) func(*v1alpha1.Set) {
	return capa(0, func(c *v1alpha1.CapabilitySpec) { fn(&c.Limits) })
}

func rate(calls int64, per time.Duration) func(*v1alpha1.Set) {
	return limits(func(l *v1alpha1.Limits) { l.Rate = &v1alpha1.Rate{Calls: calls, Per: metav1.Duration{Duration: per}} })
}

func TestLimitsThatLimitNothingAreRefused(t *testing.T) {
	t.Parallel()
	const where = "Capability read-ticket: spec.limits."
	runBroken(t, []broken{
		{"no use", limits(func(l *v1alpha1.Limits) { l.MaxUses = ptr(0) }), where + "maxUses", "want 1 to"},
		{"less than no use", limits(func(l *v1alpha1.Limits) { l.MaxUses = ptr(-1) }), where + "maxUses", "want 1 to"},
		{"no bytes", limits(func(l *v1alpha1.Limits) { l.Bytes = ptr(0) }), where + "bytes", "want 1 to"},
		{"no calls", rate(0, time.Minute), where + "rate.calls", "want 1 to"},
		{"no time", rate(1, 0), where + "rate.per", "want 1s to 24h"},
		{"too long", rate(1, 25*time.Hour), where + "rate.per", "want 1s to 24h"},
	})
}

func TestHowManyUsesMayBeAskedFor(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ most, asked, want int64 }{
		{0, 0, 0}, {0, 3, 3}, {5, 0, 5}, {5, 3, 3}, {5, 5, 5}, {5, 6, -1}, {5, -1, -1}, {0, -1, -1}, {0, maxUses + 1, -1},
	} {
		got, err := (&Capability{Limits: Limits{MaxUses: tt.most}}).Uses(tt.asked)
		var refused *RequestError
		if tt.want < 0 && !errors.As(err, &refused) || tt.want >= 0 && (err != nil || got != tt.want) {
			t.Errorf("%d of %d: %d, %v", tt.asked, tt.most, got, err)
		}
	}
}

func TestLimitsAreInTheDigest(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for why, change := range map[string]func(*v1alpha1.Set){
		"none": func(*v1alpha1.Set) {}, "a use": limits(func(l *v1alpha1.Limits) { l.MaxUses = ptr(1) }),
		"bytes": limits(func(l *v1alpha1.Limits) { l.Bytes = ptr(1) }), "a rate": rate(1, time.Minute),
		"a higher rate": rate(2, time.Minute), "a quicker rate": rate(1, time.Second),
	} {
		set := fixtureSet(t)
		change(set)
		cat, problems := Compile(set)
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		r, err := cat.Resolve("triage", "read-ticket", ops42())
		if err != nil {
			t.Fatal(err)
		}
		if other, ok := seen[r.Digest]; ok {
			t.Errorf("%s has the digest of %s", why, other)
		}
		seen[r.Digest] = why
	}
}

// However calls come: in no window of any length are there more than the
// bucket holds and fills meanwhile, and whoever waits as told gets through.
func TestARateHoldsInEveryWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		r := Rate{Calls: rapid.Int64Range(1, 7).Draw(rt, "calls"), Per: time.Duration(rapid.Int64Range(1, 100).Draw(rt, "per")) * time.Second}
		now, full := t0, time.Time{}
		var taken []time.Time
		for range rapid.IntRange(1, 60).Draw(rt, "tries") {
			next, wait := r.Next(full, now)
			if wait > 0 && next != full {
				rt.Fatal("a refused call takes something")
			}
			if wait == 0 {
				full, taken = next, append(taken, now)
			}
			if rapid.Bool().Draw(rt, "patient") {
				if _, more := r.Next(full, now.Add(wait)); wait > 0 && more > 0 {
					rt.Fatalf("told to wait %v, and then %v", wait, more)
				}
				now = now.Add(wait)
			}
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(r.Per)/2).Draw(rt, "pause")))
		}
		for i := range taken {
			for j := i; j < len(taken); j++ {
				window := taken[j].Sub(taken[i])
				if most := r.Calls + int64(window/r.interval()); int64(j-i+1) > most {
					rt.Fatalf("%d calls within %v at %+v", j-i+1, window, r)
				}
			}
		}
	})
}

func TestNamesOfCalls(t *testing.T) {
	t.Parallel()
	for id, ok := range map[string]bool{
		"pay-7": true, "A.b_c-9": true, strings.Repeat("a", 64): true,
		strings.Repeat("a", 65): false, "a b": false, "a/b": false, "a~": false, "é": false, "a,b": false, "\x00": false,
	} {
		_, err := ParseCall(RawCall{Method: "GET", Scheme: "https", Authority: "a.example", Target: "/", CallID: id})
		if (err == nil) != ok || err != nil && !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", id, err)
		}
		if err != nil && len(id) > 2 && strings.Contains(fmt.Sprint(err), id) {
			t.Errorf("the error repeats %q", id)
		}
	}
}

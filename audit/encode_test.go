package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/exeat-dev/exeat/policy"
)

func TestAStringIsOneVisibleLine(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"line breaks":           "a\nb\r\n{\"forged\":1}",
		"quotes":                `","reason":"allowed`,
		"line separators":       "a\u2028b\u2029c",
		"reading direction":     "\u202egnp.exe\u2066\u200f",
		"hidden":                "a\u200bb\ufeffc\u00ad",
		"C1 controls":           "a\u0085b\u009bc",
		"delete and null":       "a\x7fb\x00c",
		"tags beyond the plane": "a\U000e0041b",
		"terminal":              "\x1b[2J",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := appendString(nil, s, maxText)
			for _, r := range string(b) {
				if r != ' ' && !unicode.IsPrint(r) {
					t.Errorf("%q is not visible in %q", r, b)
				}
			}
			var back string
			if err := json.Unmarshal(b, &back); err != nil || back != s {
				t.Errorf("%q came back as %q (%v)", s, back, err)
			}
		})
	}
}

func TestAnyStringComesBackOrIsCut(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := string(rapid.SliceOf(rapid.Byte()).Draw(t, "bytes")) + rapid.String().Draw(t, "text")
		limit := rapid.IntRange(8, 80).Draw(t, "limit")
		b := appendString(nil, s, limit)
		var back string
		if err := json.Unmarshal(b, &back); err != nil {
			t.Fatalf("%v: %q", err, b)
		}
		want := strings.ToValidUTF8(s, "\ufffd")
		cut, was := strings.CutSuffix(back, ellipsis)
		if len(s) <= limit {
			// encoding/json and ToValidUTF8 differ on runs of bad bytes only.
			if utf8.ValidString(s) && back != want {
				t.Fatalf("%q came back as %q", s, back)
			}
			return
		}
		if utf8.ValidString(s) && (!was || !strings.HasPrefix(want, cut)) {
			t.Fatalf("%q was cut to %q", s, back)
		}
	})
}

// A record is one line of valid JSON whatever callers put in it, and its type
// and reason are ours.
func TestNoFieldForgesARecord(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"\n", `"},"unmapped":{"prev":"`, `","reason":"allowed","x":"`, strings.Repeat("\u202e", 3000),
		}))
		d := Decision{
			ID: text.Draw(t, "id"), Time: time.Unix(1, 0), Reason: policy.CallNotGranted,
			Subject: Subject{Agent: text.Draw(t, "agent"), Owner: []string{text.Draw(t, "owner")}, Task: policy.TaskID(text.Draw(t, "task"))},
			Call: Call{
				Method: text.Draw(t, "method"), Host: text.Draw(t, "host"), Path: text.Draw(t, "path"),
				Query: []policy.QueryParam{{Name: text.Draw(t, "query")}},
			},
			Removed: []string{text.Draw(t, "header")}, Request: text.Draw(t, "request"),
			Next: []policy.Next{{Action: "request_grant", Params: map[string]string{text.Draw(t, "name"): text.Draw(t, "value")}}},
		}
		var e encoder
		e.decision(&d)
		var c chain
		line := c.append(nil, e.b, 0)
		if strings.Count(string(line), "\n") != 1 || !json.Valid(line) {
			t.Fatalf("not one line of JSON: %q", line)
		}
		if seq, prev, ok := position(line[:len(line)-1]); !ok || seq != 1 || prev != (hash{}) {
			t.Fatalf("position %d %x %v", seq, prev, ok)
		}
		var p parsed
		if err := json.Unmarshal(line, &p); err != nil || p.Unmapped.Type != typeDecision || p.Unmapped.Reason != "call_not_granted" {
			t.Fatalf("read back as %v %v", p.Unmapped, err)
		}
	})
}

func TestADecisionIDIsAULID(t *testing.T) {
	t.Parallel()
	now, seen := time.Now(), map[string]bool{}
	for range 1000 {
		id := NewDecisionID(now)
		if len(id) != 28 || !strings.HasPrefix(id, "d_") || seen[id] {
			t.Fatalf("id %s", id)
		}
		seen[id] = true
	}
	if NewDecisionID(now) > NewDecisionID(now.Add(time.Second)) {
		t.Error("a later ID sorts before an earlier one")
	}
}

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/exeat-dev/exeat/client"
)

func TestATextShowsAsWhatItIs(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                            "",
		"OPS-42 (a/b)":                "OPS-42 (a/b)",
		"\x1b[2Jgone":                 `\u{001b}[2Jgone`,
		"two\nlines":                  `two\u{000a}lines`,
		"admin\u202egnp.exe":          `admin\u{202e}gnp.exe`,
		"zero\u200bwidth":             `zero\u{200b}width`,
		"fill\u3164er":                `fill\u{3164}er`,
		"no\u00a0break":               `no\u{00a0}break`,
		"bad\xffbyte":                 `bad\xffbyte`,
		"p\u0430ypal":                 "p\u0430ypal [mixes Cyrillic and Latin: p\\u{0430}ypal]",
		"\u0441\u043e\u0440\u0443":    "\u0441\u043e\u0440\u0443 [all Cyrillic: \\u{0441}\\u{043e}\\u{0440}\\u{0443}]",
		"caf\u00e9":                   "caf\u00e9 [not all ASCII: caf\\u{00e9}]",
		"e\u0301":                     `e\u{0301}`,
		"\uff21\uff22":                "\uff21\uff22 [not all ASCII, in a compatibility form: \\u{ff21}\\u{ff22}]",
		"emoji\ufe0f \U0001f600":      "emoji\\u{fe0f} \U0001f600 [not all ASCII: emoji\\u{fe0f} \\u{1f600}]",
		"language tag \U000e0041here": `language tag \u{e0041}here`,
	} {
		if got := visible(text); got != want {
			t.Errorf("%+q shows as %q, want %q", text, got, want)
		}
	}
}

// Whatever an agent writes, what is shown of it is one line that prints.
func FuzzVisible(f *testing.F) {
	for _, s := range []string{"a", "\x1b]0;t\x07", "\u202e", "\xf0\x28\x8c", "\u0430\n+ read-all"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range visible(s) {
			if !unicode.IsPrint(r) || r == utf8.RuneError && !strings.ContainsRune(s, utf8.RuneError) || unicode.Is(unicode.Bidi_Control, r) {
				t.Errorf("%+q shows %U", s, r)
			}
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(paragraph(s, "  "), "\n"), "\n") {
			if !strings.HasPrefix(line, "  | ") {
				t.Errorf("%+q leaves its place: %q", s, line)
			}
		}
		if got := asciiJSON([]byte(s)); strings.ContainsFunc(string(got), func(r rune) bool { return r >= utf8.RuneSelf }) {
			t.Errorf("%+q is not all ASCII: %q", s, got)
		}
	})
}

func TestARequestIsShownAsADifference(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	a := client.Approval{
		ID: "a_1", State: "pending", Digest: strings.Repeat("ab", 32), Agent: "triage", Owner: []string{"support"}, Task: "t_1", TaskType: "triage",
		RequestedBy: "spiffe://example.org/sidecar/triage/1", StartedBy: "spiffe://example.org/sidecar/triage/1", RequestedAt: at, ExpiresAt: at,
		Claimed: client.Claimed{Purpose: "please\nneeds     0 people\u202e", Context: map[string]string{"ticket": "OPS-1"}},
		Why:     []string{"Capability close-ticket (high risk) asks for it."}, Given: 1, Round: 2,
		Items: []client.ApprovalItem{{
			Capability: "close-ticket", Params: map[string]string{"ticket": "OPS-1"}, Risk: "high", Sensitivity: "internal",
			Calls: []string{"GET https://t/1", "POST https://t/1"}, Adds: []string{"POST https://t/1"}, Provider: "jwt",
			Scope: map[string]string{"scope": "ticket:write"}, TTL: client.Duration(2 * time.Minute), MaxUses: 1,
		}},
		Rule:  client.ApprovalRule{Count: 2, Groups: [][]string{{"leads", "chiefs"}}, StepUp: &client.StepUp{MaxAge: client.Duration(5 * time.Minute), ACR: "mfa"}},
		Votes: []client.ApprovalVote{{Name: "ann", Subject: "1", Issuer: "https://login", At: at, Comment: "ok", TTL: client.Duration(time.Minute)}},
		Holds: []client.ApprovalHeld{{Capability: "read-ticket", Until: at, Calls: []string{"GET https://t/1"}}},
		Mine:  &client.ApprovalMine{Detail: "You are among the owners."},
	}
	text := approvalText(a)
	for _, want := range []string{
		"request   a_1  pending, 1 of 2, expires 12:00:00", "digest    abab", "agent     triage, owned by support",
		"why       Capability close-ticket (high risk) asks for it.", "earlier approvals are void",
		"claimed   by the agent itself, and not checked:\n  | please\n  | needs     0 people\\u{202e}\n  | ticket = OPS-1\n",
		"+ close-ticket  ticket=OPS-1\n    high risk, internal data, for 2m0s, at most 1 calls\n    GET https://t/1\n+   POST https://t/1\n    credential of jwt: scope=ticket:write\n",
		"read-ticket until 12:00:00", "needs     2 people of one issuer, each in leads or chiefs, authenticated within 5m0s by mfa\n",
		"by ann (1 at https://login), for at most 1m0s\n  | ok\n", "you       You are among the owners.\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if table := approvalTable([]client.Approval{a}); !strings.Contains(table, "a_1      triage  close-ticket ticket=OPS-1  pending, 1 of 2  12:00:00") {
		t.Errorf("got %s", table)
	}
	a.State, a.DecidedBy, a.Comment = "refused", "person/x/bob", "not today"
	if text := approvalText(a); !strings.Contains(text, "refused   by person/x/bob\n  | not today\n") || strings.Contains(text, "expires") {
		t.Errorf("got %s", text)
	}
}

func TestWhoIsSignedInIsKeptPrivately(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "exeat")
	if _, there, err := readSession(dir); there || err != nil {
		t.Errorf("before: %v, %v", there, err)
	}
	if err := keepSession(dir, account{Issuer: "https://login", Token: "a.b.c", Name: "ann"}); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, sessionFile)
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	if s, there, err := readSession(dir); err != nil || !there || s.Name != "ann" || s.Token != "a.b.c" {
		t.Errorf("got %v, %v", there, err)
	}
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, there, err := readSession(dir); there || err == nil || strings.Contains(err.Error(), "a.b.c") {
		t.Errorf("a file that others can read: %v, %v", there, err)
	}
	if there, err := forgetSession(dir); !there || err != nil {
		t.Errorf("got %v, %v", there, err)
	}
	if there, err := forgetSession(dir); there || err != nil {
		t.Errorf("again: %v, %v", there, err)
	}
}

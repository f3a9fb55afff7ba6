package proxy

import (
	"regexp"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var wellFormed = regexp.MustCompile(`^[0-9]{1,8}m$`)

func TestParseTimeout(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond,
		"5u": 5 * time.Microsecond, "6n": 6, "0m": 0, "00000007m": 7 * time.Millisecond,
		"99999999m": 99999999 * time.Millisecond, "99999999H": 1<<63 - 1,
	} {
		if got, ok := parseTimeout(value); !ok || got != want {
			t.Errorf("%q reads as %v, %v; want %v", value, got, ok, want)
		}
	}
}

func TestWhatIsNoTimeoutIsIgnored(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		"", "m", "10", "-5m", "+5m", "1.5S", "100000000m", "5s", "5h", " 5m", "5m ", "5 m", "1S,2S", "٣m", "5mm", "0x5m",
	} {
		if got, ok := parseTimeout(value); ok {
			t.Errorf("%q reads as %v", value, got)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, c := range []struct {
		says   string
		left   time.Duration
		own    time.Duration
		hasOwn bool
		want   string // empty: nothing left
	}{
		{says: "what is left", left: 5 * time.Minute, want: "300000m"},
		{says: "rounded down", left: 1999 * time.Microsecond, want: "1m"},
		{says: "less than a millisecond is nothing", left: 999 * time.Microsecond},
		{says: "nothing", left: 0},
		{says: "past the end", left: -time.Hour},
		{says: "the agent's own is shorter", left: time.Minute, own: time.Second, hasOwn: true, want: "1000m"},
		{says: "the agent's own is longer", left: time.Minute, own: time.Hour, hasOwn: true, want: "60000m"},
		{says: "the agent's own is nothing", left: time.Minute, hasOwn: true, want: "0m"},
		{says: "the agent's own does not help when nothing is left", own: time.Hour, hasOwn: true},
		{says: "never a ninth digit", left: 1000 * time.Hour, want: "99999999m"},
	} {
		got, ok := timeLimit(at, at.Add(c.left), c.own, c.hasOwn)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s: got %q, %v; want %q", c.says, got, ok, c.want)
		}
	}
}

func TestSeenAtIsNeverAheadNorFarBehind(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for claimed, want := range map[time.Duration]time.Duration{
		0:                       0,
		time.Nanosecond:         0,
		time.Hour:               0,
		-100 * time.Millisecond: -100 * time.Millisecond,
		-maxLag:                 -maxLag,
		-time.Second:            -maxLag,
		-24 * time.Hour:         -maxLag,
	} {
		if got := seenAt(now.Add(claimed), now).Sub(now); got != want {
			t.Errorf("a request from %v is seen at %v; want %v", claimed, got, want)
		}
	}
}

func TestTimeLimitIsAlwaysWellFormedAndNeverMoreThanIsLeft(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	rapid.Check(t, func(t *rapid.T) {
		left := time.Duration(rapid.Int64().Draw(t, "left"))
		header := rapid.StringMatching(`-?[0-9.]{0,10}[HMSmunsx]?`).Draw(t, "own")
		own, hasOwn := parseTimeout(header)
		limit, ok := timeLimit(at, at.Add(left), own, hasOwn)
		if !ok {
			if left >= time.Millisecond {
				t.Fatalf("no limit with %v left", left)
			}
			return
		}
		if !wellFormed.MatchString(limit) {
			t.Fatalf("limit %q is not well formed", limit)
		}
		got, _ := parseTimeout(limit)
		if got > left || hasOwn && got > own {
			t.Fatalf("limit %v is more than %v left or the agent's own %v", got, left, own)
		}
	})
}

package grant

import (
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/exeat-dev/exeat/policy"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// The share is that of a model that ticks second by second (here by steps of a
// minute, at which everything happens), as long as no gap had to be closed.
func TestTheShareIsThatOfAModel(t *testing.T) {
	t.Parallel()
	const steps = 3 * 24 * 60
	rapid.Check(t, func(t *rapid.T) {
		var h spans
		h.init()
		held := make([]bool, 2*steps)
		at := 0
		for i := range rapid.IntRange(1, 40).Draw(t, "grants") {
			at = min(at+rapid.IntRange(0, 300).Draw(t, "pause"), steps)
			length := rapid.IntRange(1, 600).Draw(t, "length")
			now := noon.Add(time.Duration(at) * time.Minute)
			h.prune(now)
			h.Open[policy.GrantID(rune('a'+i))] = span{now.Unix(), now.Add(time.Duration(length) * time.Minute).Unix()}
			for m := at; m < at+length; m++ {
				held[m] = true
			}
			want := 0
			for m := max(0, at-24*60); m < at; m++ {
				if held[m] {
					want++
				}
			}
			if got := h.share(now) * 24 * 60; math.Abs(got-float64(want)) > 0.001 {
				t.Fatalf("at minute %d: %v minutes, want %d", at, got, want)
			}
		}
	})
}

func TestSpansAreBounded(t *testing.T) {
	t.Parallel()
	var h spans
	h.init()
	for i := range int64(2 * maxClosed) {
		from := noon.Unix() + i*100
		h.Closed = append(h.Closed, span{from, from + 50})
	}
	now := noon.Add(20 * time.Hour)
	before := h.share(now)
	h.prune(now)
	if len(h.Closed) > maxClosed || h.share(now) < before {
		t.Errorf("%d spans, share %v after %v", len(h.Closed), h.share(now), before)
	}
}

func TestRatesLookBack(t *testing.T) {
	t.Parallel()
	var r rates
	r.init()
	for _, ago := range []time.Duration{30 * time.Hour, 23 * time.Hour, 50 * time.Minute, 59 * time.Second, 0} {
		r.add(noon.Add(-ago), 1)
	}
	if m, h, d := r.counts(noon); m != 2 || h != 3 || d != 4 {
		t.Errorf("got %d, %d, %d", m, h, d)
	}
	r.prune(noon.Add(100 * time.Hour))
	if n := len(slices.Collect(maps.Keys(r.Hours))); n > 0 || len(r.Seconds) > 0 || len(r.Minutes) > 0 {
		t.Errorf("%d hours are left", n)
	}
}

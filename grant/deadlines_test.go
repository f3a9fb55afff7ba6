package grant

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/exeat-dev/exeat/policy"
)

// Whatever is set, moved and removed, due gives exactly what is due, in order.
func TestDeadlinesComeInOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d, want := newDeadlines(), map[policy.TaskID]time.Time{}
		for range rapid.IntRange(0, 60).Draw(t, "changes") {
			id := policy.TaskID(rapid.StringMatching(`[a-h]`).Draw(t, "task"))
			if rapid.Bool().Draw(t, "remove") {
				d.set(id, time.Time{})
				delete(want, id)
				continue
			}
			at := time.Unix(rapid.Int64Range(1, 50).Draw(t, "at"), 0)
			d.set(id, at)
			want[id] = at
		}
		now := time.Unix(rapid.Int64Range(0, 60).Draw(t, "now"), 0)
		var times []time.Time
		for {
			id, ok := d.due(now)
			if !ok {
				break
			}
			times = append(times, want[id])
			delete(want, id)
		}
		if !slices.IsSortedFunc(times, time.Time.Compare) {
			t.Fatalf("out of order: %v", times)
		}
		for id, at := range want {
			if !at.After(now) {
				t.Fatalf("%s was due at %v and did not come by %v", id, at, now)
			}
		}
		if len(d.byID) != len(want) || len(d.queue) != len(want) {
			t.Fatalf("%d left, want %d", len(d.queue), len(want))
		}
	})
}

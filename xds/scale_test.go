package xds

import (
	"fmt"
	"testing"
)

// BenchmarkOneTaskAmongMany is what one task's start and end cost the control
// plane when the instance has 300 others with three destinations each.
func BenchmarkOneTaskAmongMany(b *testing.B) {
	e := newSim(b)
	var rooms []Room
	for i := range 300 {
		rooms = append(rooms, room(fmt.Sprintf("t_%03d", i), destination("a"), destination("b"), destination("c")))
	}
	e.want(1, rooms...)
	e.settle()
	one := append(rooms[:len(rooms):len(rooms)], room("t_one", destination("a"), destination("b"), destination("c")))
	revision := int64(1)
	for b.Loop() {
		revision += 2
		e.want(revision-1, one...)
		e.settle()
		e.want(revision, rooms...)
		e.settle()
	}
	if e.s.ready != revision || e.s.cut != revision {
		b.Fatalf("ready %d, cut %d of %d", e.s.ready, e.s.cut, revision)
	}
}

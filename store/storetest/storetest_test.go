package storetest_test

import (
	"testing"

	"github.com/exeat-dev/exeat/store/storetest"
)

func TestFixturesAreInForce(t *testing.T) {
	t.Parallel()
	s := storetest.Open(t)
	storetest.Publish(t, s, storetest.Set())
	task := storetest.Task(t, s)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-42")

	v := s.Index().Task(task.ID)
	if v == nil || len(v.Held) != 1 || v.Held[0].Grant.ID != g.ID || v.Held[0].Resolved == nil || v.Held[0].Raised() {
		t.Fatalf("the index shows %+v", v)
	}
	if got := s.Index().TaskOfGrant(g.ID); got != task.ID {
		t.Errorf("the task of the grant is %q", got)
	}
}

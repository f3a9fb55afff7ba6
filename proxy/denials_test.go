package proxy

import (
	"context"
	"errors"
	"testing"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// counter notes what it is told of.
type counter struct {
	agents  []string
	reasons []policy.Reason
}

func (c *counter) Denied(_ context.Context, agent *policy.Agent, reason policy.Reason) {
	c.agents, c.reasons = append(c.agents, agent.Name), append(c.reasons, reason)
}

// Each denial is counted once, under its agent; a call that leaves is not, nor
// is one whose agent is not known.
func TestEachDenialIsCountedOnce(t *testing.T) {
	t.Parallel()
	w, c := newWorld(t), &counter{}
	s := w.server(t, sidecarOne)
	s.denials = c
	w.check(t, s, "/v1/tickets/OPS-42")
	if len(c.reasons) != 0 {
		t.Fatalf("a call that left is counted: %v", c.reasons)
	}
	w.check(t, s, "/v1/tickets/OPS-43")
	w.onRecord = func(audit.Decision) error { return errors.New("full") }
	w.check(t, s, "/v1/tickets/OPS-43") // a denial that cannot be recorded is one all the same
	w.onRecord, w.stale = nil, true
	w.check(t, s, "/v1/tickets/OPS-43")
	stranger := w.server(t, agentSVID)
	stranger.denials = c
	w.check(t, stranger, "/v1/tickets/OPS-43")
	want := []policy.Reason{policy.CallNotGranted, policy.CallNotGranted, policy.StateStale}
	if len(c.reasons) != len(want) {
		t.Fatalf("counted %v", c.reasons)
	}
	for i, r := range want {
		if c.reasons[i] != r || c.agents[i] != "triage" {
			t.Errorf("counted %v of %v", c.reasons[i], c.agents[i])
		}
	}
}

func (w *world) check(t *testing.T, s *Server, path string) {
	t.Helper()
	if _, err := s.Check(t.Context(), checkRequest("GET", "https", "tickets.example.org", path)); err != nil && s.denials == nil {
		t.Fatal(err)
	}
}

package store_test

import (
	"errors"
	"testing"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

func TestASuspensionEndsGrantsInTheSameWrite(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	seen := s.Index().Revision()
	inFlight := storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-2")
	sus, rev, err := s.Suspend(t.Context(), policy.Suspension{Agent: storetest.Agent, By: "somebody", Why: "because"})
	if err != nil || sus.Revision != rev {
		t.Fatalf("%+v, %v", sus, err)
	}
	storetest.Await(t, s, rev)
	h, got := held(s, g), s.Index().Suspended(storetest.Agent)
	if c, ok := h.RaisedBy(); !ok || c.Revision != rev || c.Reason != policy.EndAgentSuspended || c.By != "somebody" || c.At.IsZero() {
		t.Errorf("the grant: %+v", c)
	}
	if got == nil || got.By != "somebody" || got.Why != "because" || !got.At.Equal(sus.At) || s.Index().Suspended("other") != nil {
		t.Errorf("the agent: %+v", got)
	}
	for name, at := range map[string]int64{"decided before": seen, "decided since": s.Index().Revision()} {
		if _, err := s.CreateGrants(t.Context(), at, inFlight); !errors.Is(err, store.ErrSuspended) {
			t.Errorf("a grant %s: %v", name, err)
		}
	}
	if _, err := s.PutCredential(t.Context(), task.ID, sealed(g)); !errors.Is(err, store.ErrFloor) {
		t.Errorf("a credential: %v", err)
	}
	if rev, err = s.Resume(t.Context(), storetest.Agent); err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	if s.Index().Suspended(storetest.Agent) != nil || len(s.Index().Suspensions()) != 0 || !held(s, g).Raised() {
		t.Error("resumed, it is suspended yet, or its grant came back")
	}
	if _, err := s.Resume(t.Context(), storetest.Agent); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("resumed twice: %v", err)
	}
	storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-3")
}

func TestAPauseEndsGrantsInTheSameWrite(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	paused, rev, err := s.ChangeTask(t.Context(), task.ID, on(s, policy.EventPause))
	if err != nil || paused.State != policy.Paused {
		t.Fatalf("%+v, %v", paused, err)
	}
	storetest.Await(t, s, rev)
	if c, ok := held(s, g).RaisedBy(); !ok || c.Revision != rev || c.Reason != policy.EndRevoked {
		t.Errorf("the grant: %+v", c)
	}
	if _, err := s.CreateGrants(t.Context(), s.Index().Revision(), storetest.NewGrant(t, s, task, storetest.ReadTicket, "OPS-2")); !errors.Is(err, store.ErrConflict) {
		t.Errorf("a grant of a paused task: %v", err)
	}
	if _, _, err = s.ChangeTask(t.Context(), task.ID, on(s, policy.EventResume)); err != nil {
		t.Fatal(err)
	}
	after := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-3")
	if held(s, after).Raised() || !held(s, g).Raised() {
		t.Error("the floor ends what came after it, or not what came before")
	}
	// Written off by the sweeper, the old one cuts nothing that began since.
	_, rev, err = s.ChangeGrant(t.Context(), task.ID, g.ID, endGrant(s, policy.EndRevoked))
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	if cuts := s.Index().Task(task.ID).Cuts; len(cuts) != 0 {
		t.Errorf("cut again: %v", cuts)
	}
}

// A grant whose record does not say who the agent was serves nothing.
func TestAGrantIsBoundToWhoTheAgentIs(t *testing.T) {
	t.Parallel()
	s, task := opened(t)
	g := storetest.Grant(t, s, task, storetest.ReadTicket, "OPS-1")
	agent, _ := s.Index().Catalog().Agent(storetest.Agent)
	if h := held(s, g); h.Resolved == nil || h.Grant.AgentDigest != agent.Digest() || agent.Digest() == "" {
		t.Fatalf("%+v", h)
	}
	_, rev, err := s.ChangeGrant(t.Context(), task.ID, g.ID, func(g policy.Grant) (policy.Grant, error) {
		g.AgentDigest = ""
		return g, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	storetest.Await(t, s, rev)
	if h := held(s, g); h.Resolved != nil || h.Fallen != policy.EndContextChanged {
		t.Errorf("%+v", h)
	}
}

package audit

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

func TestADecisionIsFoundWithItsOutcome(t *testing.T) {
	t.Parallel()
	l := open(t, Config{Dir: folderOf(t), SegmentBytes: 4 << 10}) // several files
	var all []Decision
	for i := range 40 {
		d := sample("t_1", policy.CallNotGranted)
		d.Policy, d.Next = "exeat.call", []policy.Next{{Action: "request_grant", Capability: "read-ticket"}}
		decide(t, l, d)
		if i%2 == 0 {
			l.Outcome(context.Background(), Outcome{Time: time.Now(), Decision: d.ID, Subject: d.Subject, Call: d.Call, Status: 403, Sent: 3})
		}
		all = append(all, d)
	}
	flush(t, l)
	for i, d := range all {
		got, err := l.Find(context.Background(), d.ID)
		if err != nil {
			t.Fatalf("decision %d: %v", i, err)
		}
		if got.ID != d.ID || got.Reason != d.Reason || got.Task != d.Task || got.Grant != d.Grant || got.Call.Path != d.Call.Path ||
			got.Policy != d.Policy || len(got.Next) != 1 || len(got.Removed) != 1 || got.Catalog != "c_1" || got.Store != 7 {
			t.Errorf("found %+v", got)
		}
		if len(got.Call.Query) != 1 || got.Call.Query[0] != (policy.QueryParam{Name: "page"}) {
			t.Errorf("of the query there is %+v", got.Call.Query)
		}
		if (got.Outcome != nil) != (i%2 == 0) || got.Outcome != nil && (got.Outcome.Status != 403 || got.Outcome.Sent != 3) {
			t.Errorf("its outcome is %+v", got.Outcome)
		}
	}
}

func TestWhatIsNotInTheLogIsNotFound(t *testing.T) {
	t.Parallel()
	l := open(t, Config{Dir: folderOf(t)})
	decide(t, l, sample("t_1", policy.Allowed))
	for _, id := range []string{"", "d_", "t_01J00000000000000000000000", `d_01J"0000000000000000000000`, NewDecisionID(time.Now()), NewDecisionID(time.Now().Add(-time.Hour))} {
		if got, err := l.Find(context.Background(), id); !errors.Is(err, ErrNoDecision) {
			t.Errorf("%q: %+v, %v", id, got, err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Find(ctx, NewDecisionID(time.Now())); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

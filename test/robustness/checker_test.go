package robustness

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/test/stack"
)

// What the checker is worth shows in what it finds: each of these histories
// breaks one promise, and none of the others does.
func TestTheCheckerFindsWhatBreaksAPromise(t *testing.T) {
	t.Parallel()
	t0 := time.Unix(1_800_000_000, 0)
	at := func(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }
	call := func(grant, ticket string, seconds float64) stack.Arrival {
		claims := fmt.Sprintf(`{"exeat_grant":%q,"exeat_task":"t1","ticket":%q,"exp":%d}`, grant, ticket, t0.Unix()+60)
		token := "x." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".x"
		return stack.Arrival{At: at(seconds), Target: "/v1/tickets/OPS-1", Header: http.Header{"Authorization": {"Bearer " + token}}}
	}
	ten := grantEvent{Task: "t1", Ticket: "OPS-1", Asked: at(0), Told: at(1), ID: "g1", Until: at(10)}
	once, unknown := ten, ten
	once.MaxUses = 1
	unknown.ID, unknown.Until = "", time.Time{}
	l := limits{Staleness: 2 * time.Second, Check: time.Second, Slack: 500 * time.Millisecond}
	for name, c := range map[string]struct {
		grants  []grantEvent
		ends    []endEvent
		restore float64
		calls   []stack.Arrival
		want    string
	}{
		"a call under its grant":             {grants: []grantEvent{ten}, calls: []stack.Arrival{call("g1", "OPS-1", 2)}},
		"a call by a grant of unknown fate":  {grants: []grantEvent{unknown}, calls: []stack.Arrival{call("g7", "OPS-1", 2)}},
		"a call before the end":              {grants: []grantEvent{ten}, ends: []endEvent{{Task: "t1", Grant: "g1", Told: at(3), Enforced: true}}, calls: []stack.Arrival{call("g1", "OPS-1", 2)}},
		"a call soon after an accepted end":  {grants: []grantEvent{ten}, ends: []endEvent{{Task: "t1", Grant: "g1", Told: at(3)}}, calls: []stack.Arrival{call("g1", "OPS-1", 5)}},
		"after expiry":                       {grants: []grantEvent{ten}, calls: []stack.Arrival{call("g1", "OPS-1", 11)}, want: "promise 1"},
		"after the token's end":              {grants: []grantEvent{unknown}, calls: []stack.Arrival{call("g7", "OPS-1", 61)}, want: "promise 1"},
		"after an enforced end":              {grants: []grantEvent{ten}, ends: []endEvent{{Task: "t1", Grant: "g1", Told: at(3), Enforced: true}}, calls: []stack.Arrival{call("g1", "OPS-1", 4)}, want: "promise 2"},
		"after the task's enforced end":      {grants: []grantEvent{ten}, ends: []endEvent{{Task: "t1", Told: at(3), Enforced: true}}, calls: []stack.Arrival{call("g1", "OPS-1", 4)}, want: "promise 2"},
		"long after an accepted end":         {grants: []grantEvent{ten}, ends: []endEvent{{Task: "t1", Grant: "g1", Told: at(3)}}, calls: []stack.Arrival{call("g1", "OPS-1", 7)}, want: "promise 2"},
		"once too often":                     {grants: []grantEvent{once}, calls: []stack.Arrival{call("g1", "OPS-1", 2), call("g1", "OPS-1", 3)}, want: "promise 3"},
		"without a grant":                    {calls: []stack.Arrival{call("g1", "OPS-1", 2)}, want: "promise 8"},
		"before it was asked for":            {grants: []grantEvent{ten}, calls: []stack.Arrival{call("g1", "OPS-1", -1)}, want: "promise 8"},
		"with another ticket's token":        {grants: []grantEvent{ten}, calls: []stack.Arrival{call("g1", "OPS-2", 2)}, want: "promise 8"},
		"without a token":                    {grants: []grantEvent{ten}, calls: []stack.Arrival{{At: at(2), Target: "/v1/tickets/OPS-1"}}, want: "promise 8"},
		"by a grant of before a restoration": {grants: []grantEvent{ten}, restore: 4, calls: []stack.Arrival{call("g1", "OPS-1", 5)}, want: "promise 8"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory()
			for _, g := range c.grants {
				h.grant(&g)
			}
			for _, e := range c.ends {
				h.end(&e)
			}
			if c.restore > 0 {
				h.restores = append(h.restores, at(c.restore))
			}
			got := h.check(c.calls, l).Violations
			if (c.want == "") != (len(got) == 0) || len(got) > 0 && !strings.HasPrefix(got[0], c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

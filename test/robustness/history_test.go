package robustness

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/test/stack"
)

// history is what clients asked for and were told, as they saw it. Together
// with what reached the upstream it is all that the checker knows.
type history struct {
	mu     sync.Mutex
	grants []*grantEvent
	ends   []*endEvent
	calls  map[string]int // answers to calls, by reason
	// restores are when the store was put back.
	restores []time.Time
}

// grantEvent is one request for a grant. Without an ID its outcome is unknown:
// there may be such a grant.
type grantEvent struct {
	Task, Ticket string
	Asked, Told  time.Time
	ID           string
	Until        time.Time
	MaxUses      int // 0: without limit
}

// endEvent is one ending that was accepted, of a grant or of a task.
type endEvent struct {
	Task, Grant string // Grant is empty when the task ended
	Told        time.Time
	Enforced    bool
}

func newHistory() *history { return &history{calls: map[string]int{}} }

func (h *history) grant(e *grantEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.grants = append(h.grants, e)
}

func (h *history) end(e *endEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ends = append(h.ends, e)
}

func (h *history) call(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls[reason]++
}

// arrival is one call at the upstream, with what its token says that it is.
type arrival struct {
	At          time.Time
	Path        string
	Grant, Task string
	Ticket      string
	Expires     time.Time
}

// arrivalOf reads what the upstream saw. An error is a violation by itself.
func arrivalOf(a stack.Arrival) (arrival, error) {
	out := arrival{At: a.At, Path: a.Target}
	token, ok := strings.CutPrefix(a.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		return out, fmt.Errorf("%s came without a token", a.Target)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return out, err
	}
	var claims struct {
		Grant  string `json:"exeat_grant"`
		Task   string `json:"exeat_task"`
		Ticket string `json:"ticket"`
		Exp    int64  `json:"exp"`
	}
	if err := json.Unmarshal(text, &claims); err != nil {
		return out, err
	}
	out.Grant, out.Task, out.Ticket, out.Expires = claims.Grant, claims.Task, claims.Ticket, time.Unix(claims.Exp, 0)
	return out, nil
}

// limits are what the promises allow, and how late the upstream may look: what
// Envoy has sent is seen when the upstream's goroutine runs.
type limits struct {
	Staleness, Check time.Duration
	Slack            time.Duration
}

// verdict is what the checker found.
type verdict struct {
	Violations []string
	Arrivals   int
	// Latest is how long after an enforced end the last call under it was seen,
	// if any was.
	Latest time.Duration
}

func (v *verdict) broken(promise int, format string, args ...any) {
	v.Violations = append(v.Violations, fmt.Sprintf("promise %d: ", promise)+fmt.Sprintf(format, args...))
}

// check asserts promises 1, 2, 3 and 8 of a history.
func (h *history) check(seen []stack.Arrival, l limits) verdict {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := checker{history: h, limits: l, byID: map[string]*grantEvent{}, uses: map[string]int{}, ends: map[string][]*endEvent{}}
	for _, g := range h.grants {
		if g.ID != "" {
			c.byID[g.ID] = g
		}
	}
	for _, e := range h.ends {
		key := cmp.Or(e.Grant, e.Task)
		c.ends[key] = append(c.ends[key], e)
	}
	for _, s := range seen {
		c.Arrivals++
		a, err := arrivalOf(s)
		if err != nil {
			c.broken(8, "%v", err)
			continue
		}
		c.arrived(a)
	}
	return c.verdict
}

type checker struct {
	*history
	limits
	verdict
	byID map[string]*grantEvent
	ends map[string][]*endEvent
	uses map[string]int
}

// arrived checks one call that came through.
func (c *checker) arrived(a arrival) {
	if !strings.HasSuffix(a.Path, "/"+a.Ticket) {
		c.broken(8, "a token for %s came with %s", a.Ticket, a.Path)
	}
	if late := a.At.Sub(a.Expires); late > c.Slack {
		c.broken(1, "a call under grant %s came %v after its token's end", a.Grant, late)
	}
	g := c.byID[a.Grant]
	if g == nil {
		g = c.unknown(a)
	}
	if g == nil {
		c.broken(8, "a call under grant %s, which nobody had asked for, came to %s", a.Grant, a.Path)
		return
	}
	c.within(a, g)
	for _, e := range slices.Concat(c.ends[a.Grant], c.ends[a.Task]) {
		c.after(a, e)
	}
	for _, at := range c.restores {
		if g.Asked.Before(at) && a.At.After(at) {
			c.broken(8, "a call under grant %s, of before a restoration, came %v after it", a.Grant, a.At.Sub(at))
		}
	}
}

// unknown finds a request whose outcome its client does not know.
func (c *checker) unknown(a arrival) *grantEvent {
	for _, g := range c.grants {
		if g.ID == "" && g.Task == a.Task && g.Ticket == a.Ticket && g.Asked.Before(a.At) {
			return g
		}
	}
	return nil
}

// within: not before the grant was asked for, not after it ended by itself, and
// no more often than it allows.
func (c *checker) within(a arrival, g *grantEvent) {
	if g.Ticket != a.Ticket || g.Task != a.Task || a.At.Before(g.Asked) {
		c.broken(8, "grant %s is for %s of %s; a call for %s of %s came", a.Grant, g.Ticket, g.Task, a.Ticket, a.Task)
	}
	if g.Until.IsZero() {
		return
	}
	if late := a.At.Sub(g.Until); late > c.Slack {
		c.broken(1, "a call under grant %s came %v after its expiry", a.Grant, late)
	}
	if c.uses[a.Grant]++; g.MaxUses > 0 && c.uses[a.Grant] > g.MaxUses {
		c.broken(3, "grant %s allows %d uses; %d calls came", a.Grant, g.MaxUses, c.uses[a.Grant])
	}
}

// after: once enforced is told, nothing comes; and if it could not be, nothing
// comes once a replica that nobody can reach must have noticed that.
func (c *checker) after(a arrival, e *endEvent) {
	late := a.At.Sub(e.Told)
	if e.Enforced {
		c.Latest = max(c.Latest, late)
		if late > c.Slack {
			c.broken(2, "a call under grant %s came %v after its end was enforced", a.Grant, late)
		}
		return
	}
	if bound := c.Staleness + c.Check + c.Slack; late > bound {
		c.broken(2, "a call under grant %s came %v after its end was accepted, want at most %v", a.Grant, late, bound)
	}
}

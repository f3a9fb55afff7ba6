package policy

import (
	"math"
	"slices"
	"time"
)

// Limits of one grant beside its time. The zero Limits bound nothing.
type Limits struct {
	MaxUses int64 // calls that it authorises at most; 0: any number
	Rate    Rate  // how fast; zero: at any rate
	Bytes   int64 // of requests and responses together; 0: any number
}

// Bound reports whether there is a limit at all.
func (l Limits) Bound() bool { return l.MaxUses > 0 || l.Rate.Calls > 0 || l.Bytes > 0 }

// Rate bounds calls per time as a bucket does that holds Calls and fills
// evenly over Per (the generic cell rate algorithm, ITU-T I.371 annex A).
type Rate struct {
	Calls int64
	Per   time.Duration
}

// interval between two calls at the steady rate, rounded up: in doubt slower.
func (r Rate) interval() time.Duration {
	return (r.Per + time.Duration(r.Calls) - 1) / time.Duration(r.Calls)
}

// Next takes one call at now from a bucket that is full again at full. It
// gives when the bucket is full again after that call, or how long to wait.
func (r Rate) Next(full, now time.Time) (next time.Time, wait time.Duration) {
	if r.Calls <= 0 {
		return full, 0
	}
	if full.Before(now) {
		full = now
	}
	next = full.Add(r.interval())
	if over := next.Sub(now) - r.interval()*time.Duration(r.Calls); over > 0 {
		return full, over
	}
	return next, 0
}

// Use is what was used of a grant, as of a store revision. In an index it may
// be behind; the store alone decides what may still be used.
type Use struct {
	Used  int64
	Bytes int64
	// Full is when the bucket of Rate is full again.
	Full time.Time
	// Recent holds the latest uses, the oldest first, so that one that comes
	// twice is known. It is not changed in place.
	Recent []RecentUse
}

// RecentUse is one use that may come again: repeated by a sidecar that did not
// hear the answer, given back or ended.
type RecentUse struct {
	ID   string
	At   time.Time
	Back bool // given back: the upstream was never reached
	Done bool // its bytes are counted
}

// UsedUp is the Use of a grant whose record cannot be read: nothing is left,
// whatever the limit.
func UsedUp() Use { return Use{Used: math.MaxInt64, Bytes: math.MaxInt64} }

// Find gives the place of a use among the recent ones, or -1.
func (u *Use) Find(id string) int {
	return slices.IndexFunc(u.Recent, func(r RecentUse) bool { return r.ID == id })
}

// Spent reports whether nothing is left of the limits.
func (u *Use) Spent(l Limits) bool {
	return l.MaxUses > 0 && u.Used >= l.MaxUses || l.Bytes > 0 && u.Bytes >= l.Bytes
}

// UseRequest is one call that is to use a grant.
type UseRequest struct {
	// ID is the same when a sidecar asks again about the same call, and for no
	// other call. Whoever calls must not be able to choose it.
	ID string
	// Call is the call's own name (Exeat-Call) within its task; may be empty.
	Call string
}

// Spending answers a UseRequest. The zero Spending denies.
type Spending struct {
	// Reason is Allowed when the use is spent, now or by the same request
	// before, and nobody else has it.
	Reason Reason
	// After is how long to wait, for RateLimited.
	After time.Duration
	// Use of the grant as the store has it, if it was read.
	Use *Use
}

// CallEnd is what the end of a call tells about its use.
type CallEnd struct {
	// Unreached: no connection to the upstream came about, and so nothing of
	// the call was sent.
	Unreached bool
	Bytes     int64 // of request and response
}

// Limits of the grant: its own uses, and its capability's rate and bytes.
func (h *Held) Limits() Limits {
	l := Limits{MaxUses: h.Grant.MaxUses}
	if h.Resolved != nil {
		l.Rate, l.Bytes = h.Resolved.Capability.Limits.Rate, h.Resolved.Capability.Limits.Bytes
	}
	return l
}

// spent reports whether, as far as is known here, nothing is left for the
// call. One that has its use already is asked about once more.
func (h *Held) spent(call *Call) bool {
	l := h.Limits()
	return l.Bound() && h.Use.Spent(l) && (call.UseID == "" || h.Use.Find(call.UseID) < 0)
}

// With gives the view with another Use of one grant, for deciding anew.
func (v *TaskView) With(id GrantID, u Use) *TaskView {
	next := *v
	next.Held = slices.Clone(v.Held)
	for i, h := range next.Held {
		if h.Grant.ID == id {
			changed := *h
			changed.Use = u
			next.Held[i] = &changed
		}
	}
	return &next
}

package policy

import (
	"errors"
	"time"
)

// Life is where a task or a grant is between its beginning and its end. It
// changes only by Transition.
type Life struct {
	State     State
	Began     time.Time // when it was asked for or started
	Activated time.Time // zero until it was active
	// Until is when it ends by itself; at or after it nothing is allowed.
	Until time.Time
	// BeatBy is when it is given up for lost unless a heartbeat comes before;
	// zero when none is expected. It ends by itself then, as failed.
	BeatBy  time.Time
	EndedAt time.Time
	End     EndReason
}

// Begin is the life of what was asked for at now, and is forgotten at until
// if it never becomes active.
func Begin(now, until time.Time) Life { return Life{State: Pending, Began: now, Until: until} }

// Live reports whether it is active at now.
func (l Life) Live(now time.Time) bool {
	return l.State == Active && now.Before(l.Until) && (l.BeatBy.IsZero() || now.Before(l.BeatBy))
}

// Ends is when it ends by itself unless something happens before, the zero time
// when never, and the reason for which it does.
func (l Life) Ends() (time.Time, EndReason) {
	switch {
	case !l.BeatBy.IsZero() && (l.Until.IsZero() || l.BeatBy.Before(l.Until)):
		return l.BeatBy, EndFailed
	case l.State == Pending:
		return l.Until, EndRequestExpired
	}
	return l.Until, EndExpired
}

// Over reports whether at now it has ended, or its time has run out and only
// the record of that is missing.
func (l Life) Over(now time.Time) bool { return l.State == Ended || l.ranOut(now) }

// ranOut reports whether a time to end by itself was set and has passed.
func (l Life) ranOut(now time.Time) bool {
	at, _ := l.Ends()
	return l.State != StateNone && !at.IsZero() && !now.Before(at)
}

// EventKind names what can happen to a task or grant.
type EventKind uint8

// The events. The zero value is none of them.
const (
	EventNone EventKind = iota
	EventActivate
	EventPause
	EventResume
	EventEnd
	EventBeat
)

// Event happens to a task or grant.
type Event struct {
	Kind   EventKind
	Until  time.Time // for EventActivate and EventBeat
	Reason EndReason // for EventEnd
}

// Activate is the event of becoming active until a time.
func Activate(until time.Time) Event { return Event{Kind: EventActivate, Until: until} }

// Beat is the event of a heartbeat, after which the next must come by a time.
func Beat(by time.Time) Event { return Event{Kind: EventBeat, Until: by} }

// End is the event of ending for a reason.
func End(reason EndReason) Event { return Event{Kind: EventEnd, Reason: reason} }

// Errors of Transition.
var (
	// ErrEnded: it has ended, and what ended never comes back.
	ErrEnded = errors.New("already ended")
	// ErrTransition: this event cannot happen in this state.
	ErrTransition = errors.New("not possible in this state")
)

// Transition is the one state machine of tasks and grants. It returns the life
// after event at now, or the life unchanged and ErrEnded or ErrTransition.
//
//	from \ event   activate      pause      resume     beat        end
//	none           -             -          -          -           -
//	pending        active (1)    -          -          -           ended (3)
//	active         -             paused (2) -          active (4)  ended (3)
//	paused         -             -          active (2) paused (4)  ended (3)
//	ended          ErrEnded      ErrEnded   ErrEnded   ErrEnded    ErrEnded
//
// A dash is ErrTransition. (1) only until a time that is yet to come, and
// within the time that the pending one had; (2) only before its time runs out;
// (3) only for a reason of the closed list; (4) only where heartbeats are
// expected, and until a time that is yet to come. What ended by itself before
// anybody said so ended then, and for that reason (see Ends).
func Transition(l Life, event Event, now time.Time) (Life, error) {
	if l.State == Ended {
		return l, ErrEnded
	}
	switch {
	case event.Kind == EventEnd:
		return l.ended(event.Reason, now)
	case l.ranOut(now):
		return l, ErrTransition
	case event.Kind == EventActivate && l.State == Pending && now.Before(event.Until):
		l.State, l.Activated, l.Until = Active, now, event.Until
	case event.Kind == EventPause && l.State == Active:
		l.State = Paused
	case event.Kind == EventResume && l.State == Paused:
		l.State = Active
	case event.Kind == EventBeat && (l.State == Active || l.State == Paused) && !l.BeatBy.IsZero() && now.Before(event.Until):
		l.BeatBy = event.Until
	default:
		return l, ErrTransition
	}
	return l, nil
}

func (l Life) ended(reason EndReason, now time.Time) (Life, error) {
	if !reason.Valid() || !l.State.open() {
		return l, ErrTransition
	}
	at := now
	if l.ranOut(now) {
		at, reason = l.Ends()
	}
	if at.Before(l.Began) { // a clock that stepped back makes no negative life
		at = l.Began
	}
	l.State, l.EndedAt, l.End = Ended, at, reason
	return l, nil
}

// open reports whether something in this state can still end.
func (s State) open() bool { return s == Pending || s == Active || s == Paused }

// Valid reports whether r is one of the end reasons.
func (r EndReason) Valid() bool {
	switch r {
	case EndRefused, EndWithdrawn, EndRequestExpired, EndExpired, EndCompleted, EndFailed, EndRevoked,
		EndParentEnded, EndAgentSuspended, EndPolicyChanged, EndContextChanged:
		return true
	}
	return false
}

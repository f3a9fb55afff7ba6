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
	Until   time.Time
	EndedAt time.Time
	End     EndReason
}

// Live reports whether it is active at now.
func (l Life) Live(now time.Time) bool { return l.State == Active && now.Before(l.Until) }

// EventKind names what can happen to a task or grant.
type EventKind uint8

// The events. The zero value is none of them.
const (
	EventNone EventKind = iota
	EventActivate
	EventPause
	EventResume
	EventEnd
)

// Event happens to a task or grant.
type Event struct {
	Kind   EventKind
	Until  time.Time // for EventActivate
	Reason EndReason // for EventEnd
}

// Errors of Transition.
var (
	// ErrEnded: it has ended, and what ended never comes back.
	ErrEnded = errors.New("already ended")
	// ErrTransition: this event cannot happen in this state.
	ErrTransition = errors.New("not possible in this state")
)

// Transition is the one state machine of tasks and grants. It returns the life
// after event at now, or the life unchanged and ErrEnded or ErrTransition.
func Transition(l Life, event Event, now time.Time) (Life, error) { panic("contract") }

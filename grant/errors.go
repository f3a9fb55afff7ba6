package grant

import (
	"errors"
	"fmt"
	"strconv"
)

// Errors. Callers test with errors.Is; *policy.RequestError and *InvalidError
// are found with errors.As, and errors of package store come through.
var (
	// ErrNotFound: there is none, or it is someone else's. The two cannot be told apart.
	ErrNotFound = errors.New("no such task or grant")
	// ErrUnknown: no agent, owner or capability bears that name; an ErrNotFound.
	ErrUnknown = fmt.Errorf("nothing bears this name: %w", ErrNotFound)
	// ErrProof: a change to a task needs its credential or its room.
	ErrProof = errors.New("the task's credential is needed")
	// ErrOperator: only an operator, or people whom an Access lets, may do this.
	ErrOperator = errors.New("only an operator, or people whom an Access lets, may do this")
	// ErrNoInstance: only a sidecar, for its agent, may do this.
	ErrNoInstance = errors.New("only a sidecar may do this for its agent")
	// ErrEnded: the task has ended, and takes no more.
	ErrEnded = errors.New("the task has ended")
	// ErrGrantEnded: the grant has ended, and cannot be renewed.
	ErrGrantEnded = errors.New("the grant has ended")
	// ErrPaused: the task is paused, and takes no more until it is resumed.
	ErrPaused = errors.New("the task is paused")
	// ErrPausedByOther: an agent does not resume what somebody else paused.
	ErrPausedByOther = errors.New("somebody else paused the task")
	// ErrNoHeartbeat: the task was started without one.
	ErrNoHeartbeat = errors.New("the task has no heartbeat")
	// ErrTooMany: a limit on how many may be live at once is reached.
	ErrTooMany = errors.New("too many are live at once")
	// ErrNoCatalog: no catalog is in force yet.
	ErrNoCatalog = errors.New("no catalog is in force")
)

// InvalidError says which field of a request is out of bounds. It never holds
// the value.
type InvalidError struct {
	Field   string // such as claimed.purpose
	Message string // what would be right
}

func (e *InvalidError) Error() string { return e.Field + ": " + e.Message }

func invalid(field, message string) error { return &InvalidError{Field: field, Message: message} }

func tooLong(field string, limit int) error {
	return invalid(field, "at most "+strconv.Itoa(limit)+" bytes")
}

package policy

import "time"

// Suspension says that an agent is suspended: its calls are denied, and it may
// start and ask for nothing until a person resumes it.
type Suspension struct {
	Agent string
	By    string // who suspended it
	Why   string // in words; may be empty
	At    time.Time
	// Revision of the store at which it was written.
	Revision int64
}

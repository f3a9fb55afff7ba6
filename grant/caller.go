package grant

import (
	"crypto/subtle"

	"github.com/exeat-dev/exeat/policy"
)

// Caller is who asks. Whoever makes one has verified it; the zero Caller may
// do nothing.
type Caller struct {
	// Agent and Instance come from the sidecar's verified identity.
	Agent    *policy.Agent
	Instance policy.Instance
	// TaskFromRoom is the task whose room the request came through, set by the
	// sidecar's own configuration; empty when it came another way.
	TaskFromRoom policy.TaskID
	// Proof is the task credential that the request carries.
	Proof policy.Secret
	// Operator may see everything and revoke it.
	Operator bool
	// Name is the caller's identity as records show it.
	Name string
}

// owns reports whether t was started by the caller's own sidecar.
func (c Caller) owns(t policy.Task) bool {
	return c.Agent != nil && c.Instance != "" && c.Agent.Name == t.Agent && c.Instance == t.Instance
}

// proves reports whether the request acts within t. A credential that is sent
// must be right, whatever room the request came through.
func (c Caller) proves(t policy.Task) bool {
	if c.Proof.IsZero() {
		return c.TaskFromRoom != "" && c.TaskFromRoom == t.ID
	}
	return !t.Credential.IsZero() &&
		subtle.ConstantTimeCompare([]byte(c.Proof.Expose()), []byte(t.Credential.Expose())) == 1
}

// maySee reports whether the caller may know that t exists. From a room only
// that room's task is visible, so that tasks of one agent stay apart.
func (c Caller) maySee(t policy.Task) bool {
	if c.Operator {
		return true
	}
	return c.owns(t) && (c.TaskFromRoom == "" && c.Proof.IsZero() || c.proves(t))
}

// mayChange reports whether the caller may change t or what belongs to it.
func (c Caller) mayChange(t policy.Task) bool { return c.owns(t) && c.proves(t) }

// hasProof reports whether the request says at all for which task it acts. It
// is asked before anything is looked up, so that its answer tells nothing.
func (c Caller) hasProof() bool { return c.TaskFromRoom != "" || !c.Proof.IsZero() }

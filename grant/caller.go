package grant

import (
	"crypto/subtle"
	"slices"
	"time"

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
	// Operator may do everything but approve.
	Operator bool
	// Person is set when people call; Rights is what the catalog in force lets
	// them do.
	Person *Person
	Rights policy.Rights
	// Name is the caller's identity as records show it.
	Name string
}

// Person is someone whom an OIDC issuer vouches for.
type Person struct {
	// Issuer and Subject together are who it is; Name is only what it is called.
	Issuer, Subject, Name string
	// ClientID of the issuer that the person signed in to.
	ClientID string
	Groups   []string
	// AuthTime is when the person last authenticated (auth_time of OpenID
	// Connect Core 1.0 section 2), zero when the issuer does not say; ACR is how.
	AuthTime time.Time
	ACR      string
	// Local: they proved to see the terminal of the server itself.
	Local bool
}

// voter is the person as one who decides; nobody when it is none.
func (c Caller) voter() policy.Voter {
	p := c.Person
	if p == nil {
		return policy.Voter{}
	}
	return policy.Voter{
		Issuer: p.Issuer, ClientID: p.ClientID, Subject: p.Subject, Name: p.Name, Groups: p.Groups,
		AuthTime: p.AuthTime, ACR: p.ACR, Local: p.Local,
	}
}

// May reports whether the caller may do what verb says to an agent of these
// owners. It is about people: an agent's own is its own, see owns.
func (c Caller) May(verb policy.Verb, owners []string) bool {
	switch {
	case c.Operator:
		return verb != policy.VerbApprove && slices.Contains(policy.Verbs(), verb)
	case c.Person != nil:
		return c.Rights.Allow(verb, owners)
	}
	return false
}

// MayAny reports whether there may be agents to which the caller may do it.
func (c Caller) MayAny(verb policy.Verb) bool {
	if c.Operator || c.Person == nil {
		return c.May(verb, nil)
	}
	return c.Rights.Any(verb)
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

// maySee reports whether the caller may know that t exists, whose agent these
// owners answer for. From a room only that room's task is visible, so that
// tasks of one agent stay apart.
func (c Caller) maySee(t policy.Task, owners []string) bool {
	if c.May(policy.VerbView, owners) {
		return true
	}
	return c.owns(t) && (c.TaskFromRoom == "" && c.Proof.IsZero() || c.proves(t))
}

// mayChange reports whether the caller may change t or what belongs to it.
func (c Caller) mayChange(t policy.Task) bool { return c.owns(t) && c.proves(t) }

// hasProof reports whether the request says at all for which task it acts. It
// is asked before anything is looked up, so that its answer tells nothing.
func (c Caller) hasProof() bool { return c.TaskFromRoom != "" || !c.Proof.IsZero() }

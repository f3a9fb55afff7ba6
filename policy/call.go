package policy

import "time"

// Call is one outbound request in canonical form. Only ParseCall makes one
// that Decide will look at; the zero Call is denied as malformed.
type Call struct {
	ok     bool
	Method string // as sent; methods are case-sensitive (RFC 9110 section 9.1)
	Scheme string // http or https
	Host   string // lower case, no port, no trailing dot
	Port   uint16
	// Path is decoded where that is unambiguous, normalised and always begins
	// with a slash; a path that could be read two ways is not a Call.
	Path string
	// Segments of Path between the slashes, percent-decoded.
	Segments []string
	Query    []QueryParam
	// HasBody reports that the request carries a body, or may.
	HasBody bool
	// GrantID names the grant to use (Exeat-Grant); empty takes the narrowest.
	GrantID GrantID
	// At is when Envoy saw the request.
	At time.Time
}

// QueryParam is one decoded query parameter, in order.
type QueryParam struct{ Name, Value string }

// RawCall is a request before it is known to be well formed.
type RawCall struct {
	Method, Scheme, Authority string
	// Target is the path and query as received (RFC 9112 section 3.2.1).
	Target  string
	HasBody bool
	GrantID string
	At      time.Time
}

// Decision answers a call. The zero Decision denies.
type Decision struct {
	Reason Reason
	// Held is the grant that allows the call, or for a denial the one that
	// came closest; may be nil.
	Held *Held
	// Next lists what the agent may ask for that would cover the call.
	Next []Next
}

// Allowed reports whether the call may leave.
func (d Decision) Allowed() bool { return d.Reason == Allowed && d.Held != nil }

// Next is something that the agent can do about a denial.
type Next struct {
	Action     string            `json:"action"`
	Capability string            `json:"capability,omitempty"`
	Params     map[string]string `json:"params,omitempty"`
}

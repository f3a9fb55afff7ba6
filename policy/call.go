package policy

import (
	"errors"
	"strings"
	"time"
)

// Bounds on a call; beyond them it is malformed.
const (
	maxMethod    = 32
	maxAuthority = 260 // a name of 253 characters, a colon and a port
	maxTarget    = 8192
	maxSegments  = 128
	maxQuery     = 256
)

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
	// Segments of Path between the slashes, percent-decoded. After a trailing
	// slash comes an empty one; "/" is one empty segment.
	Segments []string
	Query    []QueryParam
	// HasBody reports that the request carries a body, or may.
	HasBody bool
	// GrantID names the grant to use (Exeat-Grant); empty takes the narrowest.
	GrantID GrantID
	// ID is the call's own name within its task (Exeat-Call): with one, it is
	// made at most once. Empty: it may be repeated.
	ID string
	// UseID is that of the UseRequest which this call makes. Whoever has it sets
	// it; nothing that the agent sends does.
	UseID string
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
	CallID  string
	At      time.Time
}

// URL gives the call's address without its query, which may hold secrets.
func (c *Call) URL() string {
	if c == nil || !c.ok {
		return ""
	}
	return c.Scheme + "://" + c.authority() + c.Path
}

func (c *Call) authority() string {
	if c.Port == defaultPort(c.Scheme) {
		return c.Host
	}
	return c.Host + ":" + itoa(c.Port)
}

func itoa(n uint16) string {
	var b [5]byte
	i := len(b)
	for {
		i--
		b[i] = '0' + byte(n%10)
		if n /= 10; n == 0 {
			return string(b[i:])
		}
	}
}

// malformed is an error of ParseCall. It names the part and never its value.
type malformed string

func (m malformed) Error() string        { return "malformed call: " + string(m) }
func (m malformed) Is(target error) bool { return target == ErrMalformed }

// Errors of ParseCall. All of them are ErrMalformed to errors.Is.
var ErrMalformed = errors.New("malformed call")

// ErrByAddress: the call names an IP address, in whatever notation; a
// destination is only ever called by its name.
const ErrByAddress = malformed("authority: a destination by address; call it by its name")

const (
	errMethod        = malformed("method: not a token (RFC 9110 section 5.6.2)")
	errMethodRefused = malformed("method: TRACE and CONNECT are never granted")
	errScheme        = malformed("scheme: neither http nor https")
	errAuthorityLong = malformed("authority: too long")
	errUserinfo      = malformed("authority: holds userinfo")
	errHost          = malformed("authority: not a DNS host name in ASCII without a trailing dot")
	errPort          = malformed("authority: not a port")
	errTargetLong    = malformed("target: too long")
	errTargetForm    = malformed("target: not in origin form, which begins with a slash")
	errSegments      = malformed("path: too many segments")
	errEmptySegment  = malformed("path: an empty segment")
	errPathChar      = malformed("path: a character that must be percent-encoded")
	errEncoding      = malformed("target: a percent-encoding that is none")
	errUTF8          = malformed("target: not UTF-8 once decoded")
	errDotSegment    = malformed("path: a dot segment")
	errAmbiguous     = malformed("path: an encoded character that could be read as structure")
	errQueryMany     = malformed("query: too many parameters")
	errQueryName     = malformed("query: a parameter without a name")
	errQueryChar     = malformed("query: a character that must be percent-encoded, or must not be there")
	errGrantID       = malformed("exeat-grant: not a grant ID")
	errCallID        = malformed("exeat-call: want 1 to 64 letters, digits, dots, underscores and dashes")
)

// ParseCall brings a raw request into canonical form, or says why it can't be:
// the error is ErrMalformed, and ErrByAddress for a call by IP address. It
// follows RFC 9110, RFC 9112 section 3.2.1 and RFC 3986, and refuses whatever
// another reader could take for something else.
func ParseCall(r RawCall) (Call, error) {
	if err := checkMethod(r.Method); err != nil {
		return Call{}, err
	}
	if r.Scheme != "http" && r.Scheme != "https" {
		return Call{}, errScheme
	}
	c := Call{Method: r.Method, Scheme: r.Scheme, HasBody: r.HasBody, GrantID: GrantID(r.GrantID), ID: r.CallID, At: r.At}
	var err error
	if c.Host, c.Port, err = parseAuthority(r.Authority, r.Scheme); err != nil {
		return Call{}, err
	}
	if err := c.parseTarget(r.Target); err != nil {
		return Call{}, err
	}
	if r.GrantID != "" && !c.GrantID.Valid() {
		return Call{}, errGrantID
	}
	if r.CallID != "" && !isCallID(r.CallID) {
		return Call{}, errCallID
	}
	c.ok = true
	return c, nil
}

const maxCallID = 64

// isCallID takes what can stand in a header, a key and a record as it is.
func isCallID(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isUnreserved(c) || c == '~' {
			return false
		}
	}
	return s != "" && len(s) <= maxCallID
}

// ParseURL brings a call that somebody wrote down, as a method and a URL, into
// canonical form. The error is ErrMalformed.
func ParseURL(method, url string, hasBody bool, at time.Time) (Call, error) {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return Call{}, errScheme
	}
	authority, target := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	if target[0] == '?' {
		target = "/" + target
	}
	return ParseCall(RawCall{Method: method, Scheme: strings.ToLower(scheme), Authority: authority, Target: target, HasBody: hasBody, At: at})
}

// checkMethod takes any token but TRACE, which reflects credentials, and
// CONNECT, which asks for a tunnel that nothing could look into.
func checkMethod(m string) error {
	if m == "" || len(m) > maxMethod || !isToken(m) {
		return errMethod
	}
	if strings.EqualFold(m, "TRACE") || strings.EqualFold(m, "CONNECT") {
		return errMethodRefused
	}
	return nil
}

// isToken: RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !isUnreserved(c) && strings.IndexByte("!#$%&'*+^`|", c) < 0 {
			return false
		}
	}
	return s != ""
}

// Decision answers a call. The zero Decision denies.
type Decision struct {
	Reason Reason
	// Held is the grant that allows the call, or for a denial the one that
	// came closest; may be nil.
	Held *Held
	// Next lists what the agent may ask for that would cover the call.
	Next []Next
	// Policy is the rule that denied with the reason PolicyDenied, else nil.
	Policy *CallRule
}

// Allowed reports whether the call may leave.
func (d Decision) Allowed() bool { return d.Reason == Allowed && d.Held != nil }

// Next is something that the agent can do about a denial.
type Next struct {
	Action     string            `json:"action"`
	Capability string            `json:"capability,omitempty"`
	Params     map[string]string `json:"params,omitempty"`
	// Approval is the request that people decide on, Address where its grant is
	// read and waited for.
	Approval string `json:"approval,omitempty"`
	Address  string `json:"address,omitempty"`
}

package proxy

import (
	"bytes"
	"errors"
	"strings"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/exeat-dev/exeat/policy"
)

// headerPartialBody is what ext_authz adds to a Check once it saw a body, or
// that there is none after all; never on a request that ended with its headers.
const headerPartialBody = "x-envoy-auth-partial-body"

// errMalformed: the request can be read in more than one way, or not at all.
var errMalformed = errors.New("malformed call")

// request is what a Check says about one call, before it is a policy.Call.
type request struct {
	raw policy.RawCall
	// id is the x-request-id that Envoy made.
	id string
	// stream is Envoy's own random number for the request.
	stream string
	// sni is what the client asked for in TLS, lower case; empty without TLS.
	sni string
	// timeout is the agent's own grpc-timeout, if it sent a valid one.
	timeout    time.Duration
	hasTimeout bool
	// upgrade: the connection becomes something else than HTTP.
	upgrade bool
}

// translate reads a Check. What it returns with an error is as much as can be
// told for the record.
func translate(req *authv3.CheckRequest, now time.Time) (request, error) {
	attributes := req.GetAttributes()
	h := attributes.GetRequest().GetHttp()
	r := request{
		raw: policy.RawCall{
			Method: h.GetMethod(), Scheme: h.GetScheme(), Authority: h.GetHost(), Target: h.GetPath(),
			At: now,
		},
		sni:    strings.ToLower(attributes.GetTlsSession().GetSni()),
		stream: h.GetId(),
	}
	if t := attributes.GetRequest().GetTime(); t.IsValid() {
		r.raw.At = seenAt(t.AsTime(), now)
	}
	// What Envoy received of the body so far, which is at least one byte of it
	// if there is any.
	r.raw.HasBody = h.GetSize() > 0 || len(h.GetRawBody()) > 0 || h.GetBody() != ""

	s := headerScan{request: &r, http: h}
	err := s.all()
	return r, err
}

// field is one header line of a request. Which of the two holds its value
// depends on the filter's encode_raw_headers; raw bytes need not be UTF-8.
type field struct {
	name string
	raw  []byte
	text string
}

func (f field) value() string {
	if len(f.raw) > 0 {
		return string(f.raw)
	}
	return f.text
}

// eachHeader visits the request's headers as Envoy has them: raw, in order and
// one by one with encode_raw_headers, else merged. It stops at the first error.
func eachHeader(h *authv3.AttributeContext_HttpRequest, fn func(field) error) error {
	for _, v := range h.GetHeaderMap().GetHeaders() {
		if err := fn(field{v.GetKey(), v.GetRawValue(), v.GetValue()}); err != nil {
			return err
		}
	}
	for name, value := range h.GetHeaders() {
		if err := fn(field{name: name, text: value}); err != nil {
			return err
		}
	}
	return nil
}

// headerScan goes once over a request's headers.
type headerScan struct {
	*request
	http *authv3.AttributeContext_HttpRequest
	seen uint32 // bits of the names that may stand only once
}

func (s *headerScan) all() error { return eachHeader(s.http, s.one) }

func (s *headerScan) one(f field) error {
	if strings.HasPrefix(f.name, ":") {
		return s.pseudo(f.name, f.value())
	}
	if !isToken(f.name) || !isFieldValue(f) {
		return errMalformed
	}
	h, known := headers[f.name]
	if s.seen&h.single != 0 || !known && policy.OverrideHeader(f.name) {
		return errMalformed
	}
	s.seen |= h.single
	return s.special(f)
}

// pseudo compares a pseudo-header with the attribute made from it: Envoy
// replaces in attributes what is not UTF-8, and then they differ.
func (s *headerScan) pseudo(name, value string) error {
	var attribute string
	switch name {
	case ":method":
		attribute = s.http.GetMethod()
	case ":authority":
		attribute = s.http.GetHost()
	case ":path":
		attribute = s.http.GetPath()
	case ":scheme":
		attribute = s.http.GetScheme()
	default: // such as :protocol (RFC 8441), which Envoy turns into an upgrade
		return errMalformed
	}
	if value != attribute {
		return errMalformed
	}
	return nil
}

// special takes what headers say of the body, the grant and the time limit.
func (s *headerScan) special(f field) error {
	switch f.name {
	case "content-length":
		return s.contentLength(f.value())
	case "content-type":
		return oneContentType(f.value())
	case "transfer-encoding":
		s.raw.HasBody = true
	case headerPartialBody:
		s.raw.HasBody = s.raw.HasBody || f.value() == "true"
	case headerConnection:
		return connectionOptions(f.value())
	case "upgrade":
		// Whatever the protocol, its bytes are content that nobody looked at.
		s.upgrade, s.raw.HasBody = true, true
	case policy.HeaderGrant:
		s.raw.GrantID = f.value()
	case policy.HeaderCall:
		// An empty name must not read as none: the agent counts on it.
		if s.raw.CallID = f.value(); s.raw.CallID == "" {
			return errMalformed
		}
	case headerTimeout:
		s.timeout, s.hasTimeout = parseTimeout(f.value())
	case "x-request-id":
		s.id = f.value()
	}
	return nil
}

// contentLength is digits alone (RFC 9110 section 8.6); a list of equal values
// is not accepted here.
func (s *headerScan) contentLength(value string) error {
	if value == "" || strings.Trim(value, "0123456789") != "" {
		return errMalformed
	}
	if strings.Trim(value, "0") != "" {
		s.raw.HasBody = true
	}
	return nil
}

// oneContentType refuses a second media type after a comma: Envoy joins two
// headers to one value. A comma within quotes belongs to a parameter.
func oneContentType(value string) error {
	quoted := false
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case c == ',' && !quoted:
			return errMalformed
		}
	}
	return nil
}

// connectionOptions refuses any option but those of an upgrade: a connection
// option names a header for the next hop to drop (RFC 9110 section 7.6.1), and
// on upgrades Envoy hands it on, so it could drop the credential.
func connectionOptions(value string) error {
	for option := range strings.SplitSeq(value, ",") {
		switch strings.ToLower(strings.Trim(option, " \t")) {
		case "upgrade", "keep-alive", "close":
		default:
			return errMalformed
		}
	}
	return nil
}

// isToken reports whether name is a field name (RFC 9110 section 5.6.2) in
// lower case, as HTTP/2 has them and Envoy gives them.
func isToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
			continue
		}
		if strings.IndexByte("!#$%&'*+-.^_`|~", c) < 0 {
			return false
		}
	}
	return name != ""
}

// isFieldValue reports that a value cannot be taken for two (RFC 9110 section 5.5).
func isFieldValue(f field) bool {
	const breaks = "\r\n\x00"
	return !bytes.ContainsAny(f.raw, breaks) && !strings.ContainsAny(f.text, breaks)
}

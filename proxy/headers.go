package proxy

import (
	"strings"

	"github.com/exeat-dev/exeat/policy"
)

// header is what is known of a header's name.
type header struct {
	// pass: in the fixed safe set. What is not, passes only to a destination
	// that lists it.
	pass bool
	// single names may stand only once: two values are read differently by
	// different servers (RFC 9110 section 5.3). It is the name's bit, 0 for
	// names that may repeat.
	single uint32
}

// Bits of the names that may stand only once.
const (
	onceContentLength uint32 = 1 << iota
	onceContentType
	onceContentRange
	onceDate
	onceIfModifiedSince
	onceIfRange
	onceIfUnmodifiedSince
	onceRange
	onceUserAgent
	onceGrant
	onceCall
	onceTimeout
	onceIdempotencyKey
	onceLastEventID
	onceUpgrade
	onceTraceparent
)

// headers holds the fixed safe set and the names that are never safe. Safe is
// what describes the message and carries no authority: not who sends it
// (Authorization, Cookie, Forwarded), nor where from (Referer, Origin).
var headers = map[string]header{
	// Content negotiation (RFC 9110 section 12.5) and preferences (RFC 7240, RFC 9218).
	"accept":          {pass: true},
	"accept-charset":  {pass: true},
	"accept-encoding": {pass: true},
	"accept-language": {pass: true},
	"prefer":          {pass: true},
	"priority":        {pass: true},

	// The content (RFC 9110 sections 8 and 14.4, RFC 9530). Without
	// Content-Length Envoy would send the body in chunks.
	"content-type":      {true, onceContentType},
	"content-length":    {true, onceContentLength},
	"content-encoding":  {pass: true},
	"content-language":  {pass: true},
	"content-range":     {true, onceContentRange},
	"content-digest":    {pass: true},
	"repr-digest":       {pass: true},
	"transfer-encoding": {pass: true},
	"trailer":           {pass: true},
	"date":              {true, onceDate},

	// Conditions, ranges and caching (RFC 9110 sections 13 and 14, RFC 9111).
	"if-match":            {pass: true},
	"if-none-match":       {pass: true},
	"if-modified-since":   {true, onceIfModifiedSince},
	"if-unmodified-since": {true, onceIfUnmodifiedSince},
	"if-range":            {true, onceIfRange},
	"range":               {true, onceRange},
	"cache-control":       {pass: true},
	"pragma":              {pass: true},

	// Control of the exchange. Envoy leaves only "trailers" of TE
	// (RFC 9110 section 10.1.4) and answers Expect itself.
	"expect":     {pass: true},
	"te":         {pass: true},
	"user-agent": {true, onceUserAgent},

	// Safe repetition and resumption (draft-ietf-httpapi-idempotency-key-header,
	// HTML section 9.2), and W3C Trace Context. Not W3C Baggage: it is free text.
	"idempotency-key": {true, onceIdempotencyKey},
	"last-event-id":   {true, onceLastEventID},
	"traceparent":     {true, onceTraceparent},
	"tracestate":      {pass: true},

	// WebSocket (RFC 6455 section 4.1). Not Sec-WebSocket-Protocol: it is used
	// to carry bearer tokens; a destination may list it.
	"connection":               {pass: true},
	"upgrade":                  {true, onceUpgrade},
	"sec-websocket-key":        {pass: true},
	"sec-websocket-version":    {pass: true},
	"sec-websocket-extensions": {pass: true},

	// Envoy still needs these here; the serving route removes them.
	"x-forwarded-proto": {pass: true},
	"x-request-id":      {pass: true},
	"grpc-timeout":      {true, onceTimeout},

	// Ours; they end here.
	policy.HeaderGrant: {single: onceGrant},
	policy.HeaderCall:  {single: onceCall},
}

// passes reports whether a header may go on to a destination.
func passes(name string, d *policy.Destination) bool {
	if h, known := headers[name]; known {
		return h.pass
	}
	return d.Allows(name)
}

// settable reports whether a credential may be in a header of this name: not
// in one that says what the message is, where it goes or who stood between.
func settable(name string) bool {
	if _, known := headers[name]; known || !isToken(name) || name == "host" || policy.OverrideHeader(name) {
		return false
	}
	for _, prefix := range [...]string{"exeat-", "x-envoy-", "x-forwarded-"} {
		if strings.HasPrefix(name, prefix) {
			return false
		}
	}
	return true
}

// envoyMade are the removed names that Envoy itself puts on: no news for the record.
func envoyMade(name string) bool {
	return name == "x-envoy-external-address" || name == headerPartialBody
}

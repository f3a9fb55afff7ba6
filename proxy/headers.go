package proxy

import "strings"

// fate is what becomes of a request header on its way out.
type fate uint8

const (
	// remove is what happens to every header that nothing speaks for.
	remove fate = iota
	// pass: in the fixed safe set.
	pass
	// routed: Envoy still needs it here; the serving route removes it.
	routed
	// never: removed even if a destination lists it.
	never
	// overrides: makes some servers take another method or URL than the one
	// that is decided on, so the call is malformed.
	overrides
)

// header is what is known of a header's name.
type header struct {
	fate fate
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
	"accept":          {fate: pass},
	"accept-charset":  {fate: pass},
	"accept-encoding": {fate: pass},
	"accept-language": {fate: pass},
	"prefer":          {fate: pass},
	"priority":        {fate: pass},

	// The content (RFC 9110 sections 8 and 14.4, RFC 9530). Without
	// Content-Length Envoy would send the body in chunks.
	"content-type":      {pass, onceContentType},
	"content-length":    {pass, onceContentLength},
	"content-encoding":  {fate: pass},
	"content-language":  {fate: pass},
	"content-range":     {pass, onceContentRange},
	"content-digest":    {fate: pass},
	"repr-digest":       {fate: pass},
	"transfer-encoding": {fate: pass},
	"trailer":           {fate: pass},
	"date":              {pass, onceDate},

	// Conditions, ranges and caching (RFC 9110 sections 13 and 14, RFC 9111).
	"if-match":            {fate: pass},
	"if-none-match":       {fate: pass},
	"if-modified-since":   {pass, onceIfModifiedSince},
	"if-unmodified-since": {pass, onceIfUnmodifiedSince},
	"if-range":            {pass, onceIfRange},
	"range":               {pass, onceRange},
	"cache-control":       {fate: pass},
	"pragma":              {fate: pass},

	// Control of the exchange. Envoy leaves only "trailers" of TE
	// (RFC 9110 section 10.1.4) and answers Expect itself.
	"expect":     {fate: pass},
	"te":         {fate: pass},
	"user-agent": {pass, onceUserAgent},

	// Safe repetition and resumption (draft-ietf-httpapi-idempotency-key-header,
	// HTML section 9.2), and W3C Trace Context. Not W3C Baggage: it is free text.
	"idempotency-key": {pass, onceIdempotencyKey},
	"last-event-id":   {pass, onceLastEventID},
	"traceparent":     {pass, onceTraceparent},
	"tracestate":      {fate: pass},

	// WebSocket (RFC 6455 section 4.1). Not Sec-WebSocket-Protocol: it is used
	// to carry bearer tokens; a destination may list it.
	"connection":               {fate: pass},
	"upgrade":                  {pass, onceUpgrade},
	"sec-websocket-key":        {fate: pass},
	"sec-websocket-version":    {fate: pass},
	"sec-websocket-extensions": {fate: pass},

	// Envoy's own at this point.
	"x-forwarded-proto": {fate: routed},
	"x-request-id":      {fate: routed},
	"grpc-timeout":      {routed, onceTimeout},

	// What says who sends: the credential of the grant takes its place. And
	// what says through whom: the upstream might believe it.
	"authorization": {fate: never},
	"cookie":        {fate: never},
	"cookie2":       {fate: never},
	"forwarded":     {fate: never},
	"via":           {fate: never},
	"x-real-ip":     {fate: never},
	"exeat-grant":   {never, onceGrant},
	"exeat-call":    {never, onceCall},

	"x-http-method-override": {fate: overrides},
	"x-http-method":          {fate: overrides},
	"x-method-override":      {fate: overrides},
	"x-original-method":      {fate: overrides},
	"x-original-url":         {fate: overrides},
	"x-original-uri":         {fate: overrides},
	"x-rewrite-url":          {fate: overrides},
	"x-rewrite-uri":          {fate: overrides},
	"x-override-url":         {fate: overrides},
	"-method":                {fate: overrides}, // _method
}

// neverPrefixes are ours, Envoy's and proxies' own spaces of names.
var neverPrefixes = [...]string{"exeat-", "proxy-", "x-envoy-", "x-forwarded-"}

// headerOf looks a lower-case name up. Servers that read names from a CGI-like
// environment (RFC 3875 section 4.1.18) take an underscore for a hyphen, so a
// name with underscores is never safer than the one with hyphens, and it is
// not that one either.
func headerOf(name string) header {
	if strings.IndexByte(name, '_') < 0 {
		return plainHeaderOf(name)
	}
	if h := plainHeaderOf(strings.ReplaceAll(name, "_", "-")); h.fate == never || h.fate == overrides {
		return header{fate: h.fate}
	}
	return header{}
}

func plainHeaderOf(name string) header {
	if h, ok := headers[name]; ok {
		return h
	}
	for _, p := range neverPrefixes {
		if strings.HasPrefix(name, p) {
			return header{fate: never}
		}
	}
	return header{}
}

// passes reports whether a header may go to a destination that lists these
// names besides the fixed set; a trailing * is a prefix.
func (h header) passes(name string, listed []string) bool {
	switch h.fate {
	case pass, routed:
		return true
	case remove:
		return listedIn(listed, name)
	}
	return false
}

func listedIn(listed []string, name string) bool {
	for _, l := range listed {
		if p, isPrefix := strings.CutSuffix(l, "*"); l == name || isPrefix && strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// envoyMade are the removed names that Envoy itself puts on: no news for the record.
func envoyMade(name string) bool {
	return name == "x-envoy-external-address" || name == headerPartialBody
}

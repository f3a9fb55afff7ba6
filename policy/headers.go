package policy

import (
	"maps"
	"slices"
	"strings"
)

// overrideHeaders ask an upstream to take a call for another method or address.
var overrideHeaders = nameSet("x-http-method", "x-http-method-override", "x-method-override", "x-original-method",
	"x-original-url", "x-original-uri", "x-rewrite-url", "x-original-path")

// forbiddenHeaders are never let through from an agent, because they carry a
// credential or an identity, steer a proxy, frame the message, or say where it
// came from.
var forbiddenHeaders = nameSet("authorization", "cookie", "set-cookie", "host", "connection", "keep-alive", "te",
	"trailer", "transfer-encoding", "upgrade", "content-length", "http2-settings", "expect", "grpc-timeout",
	"forwarded", "via", "x-forwarded", "x-request-id", "x-real-ip", "x-client-ip", "true-client-ip", "x-host",
	"x-original-host", "x-scheme")

// forbiddenPrefixes begin names that are forbidden alike.
var forbiddenPrefixes = [...]string{"proxy-", "exeat-", "x-envoy-", "x-forwarded-", ":"}

// nameSet makes a set that nothing changes once it is made.
func nameSet(names ...string) map[string]struct{} {
	m := make(map[string]struct{}, len(names))
	for _, n := range names {
		m[n] = struct{}{}
	}
	return m
}

// ForbiddenHeader reports whether no destination may let a header of this
// name through.
func ForbiddenHeader(name string) bool {
	name = plainHeader(name)
	for _, p := range forbiddenPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	_, forbidden := forbiddenHeaders[name]
	_, override := overrideHeaders[name]
	return forbidden || override
}

// OverrideHeader reports whether a header of this name asks the upstream to
// take the call for another method or address; a call that has one is denied.
func OverrideHeader(name string) bool {
	_, ok := overrideHeaders[plainHeader(name)]
	return ok
}

// plainHeader is how names are compared: in lower case, and _ as -, because
// some servers take the one for the other (RFC 3875 section 4.1.18).
func plainHeader(name string) string { return strings.ReplaceAll(lowerASCII(name), "_", "-") }

// forbiddenUnder names a header that a prefix would let through and must not.
func forbiddenUnder(prefix string) string {
	prefix = plainHeader(prefix)
	for _, p := range forbiddenPrefixes {
		if strings.HasPrefix(p, prefix) || strings.HasPrefix(prefix, p) {
			return p + "*"
		}
	}
	for _, set := range []map[string]struct{}{forbiddenHeaders, overrideHeaders} {
		for _, name := range slices.Sorted(maps.Keys(set)) {
			if strings.HasPrefix(name, prefix) {
				return name
			}
		}
	}
	return ""
}

// Allows reports whether the destination lets a header of this name through
// besides the fixed safe set.
func (d *Destination) Allows(name string) bool {
	if d == nil || len(d.Headers) == 0 || ForbiddenHeader(name) {
		return false
	}
	name = lowerASCII(name)
	for _, h := range d.Headers {
		if prefix, ok := strings.CutSuffix(h, "*"); ok && strings.HasPrefix(name, prefix) || h == name {
			return true
		}
	}
	return false
}

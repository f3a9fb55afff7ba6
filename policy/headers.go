package policy

import "strings"

// Headers that are never let through from an agent, because they carry a
// credential or an identity, steer a proxy, change what the call is, or say
// where it came from. Names are compared in lower case, _ as -: some servers
// take the one for the other.
const forbiddenHeaders = " authorization cookie set-cookie host connection keep-alive te trailer transfer-encoding " +
	"upgrade content-length http2-settings expect grpc-timeout forwarded via x-request-id x-real-ip x-client-ip " +
	"true-client-ip x-host x-original-host x-scheme x-forwarded "

const overrideHeaders = " x-http-method x-http-method-override x-method-override x-original-method " +
	"x-original-url x-original-uri x-rewrite-url x-original-path "

var forbiddenPrefixes = [...]string{"proxy-", "exeat-", "x-envoy-", "x-forwarded-", ":"}

// ForbiddenHeader reports whether no destination may let a header of this
// name through.
func ForbiddenHeader(name string) bool {
	name = plainHeader(name)
	for _, p := range forbiddenPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return listed(forbiddenHeaders, name) || listed(overrideHeaders, name)
}

// OverrideHeader reports whether a header of this name asks the upstream to
// take the call for another method or address; a call that has one is denied.
func OverrideHeader(name string) bool { return listed(overrideHeaders, plainHeader(name)) }

func plainHeader(name string) string { return strings.ReplaceAll(lowerASCII(name), "_", "-") }

func listed(list, name string) bool {
	return name != "" && !strings.Contains(name, " ") && strings.Contains(list, " "+name+" ")
}

// forbiddenUnder names a header that a prefix would let through and must not.
func forbiddenUnder(prefix string) string {
	prefix = plainHeader(prefix)
	for _, p := range forbiddenPrefixes {
		if strings.HasPrefix(p, prefix) || strings.HasPrefix(prefix, p) {
			return p + "*"
		}
	}
	for name := range strings.FieldsSeq(forbiddenHeaders + overrideHeaders) {
		if strings.HasPrefix(name, prefix) {
			return name
		}
	}
	return ""
}

// Allows reports whether the destination lets a header of this name through
// besides the fixed safe set.
func (d *Destination) Allows(name string) bool {
	if d == nil || ForbiddenHeader(name) {
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

package policy

import (
	"strings"
)

// hostFault says why s is not a DNS host name in canonical form (RFC 1123
// section 2.1: letters, digits and hyphens; lower case here), or is empty.
func hostFault(s string) string {
	switch {
	case s == "":
		return "is empty"
	case len(s) > 253:
		return "is longer than 253 characters"
	case strings.HasSuffix(s, "."):
		return "ends in a dot"
	}
	rest, label, more := s, "", true
	for more {
		label, rest, more = strings.Cut(rest, ".")
		if f := labelFault(label); f != "" {
			return f
		}
	}
	if numeric(label) {
		return "is an address"
	}
	return ""
}

// labelFault says the same of one label.
func labelFault(label string) string {
	switch {
	case label == "":
		return "has an empty label"
	case len(label) > 63:
		return "has a label longer than 63 characters"
	case label[0] == '-' || label[len(label)-1] == '-':
		return "has a label that begins or ends in a hyphen"
	}
	for i := 0; i < len(label); i++ {
		if c := label[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return "has a character that is not a lower-case letter, digit or hyphen"
		}
	}
	return ""
}

// numeric reports whether a host that ends in label is an IPv4 address in some
// notation: decimal, octal, hexadecimal, with any number of dots (URL Standard,
// "ends in a number"). No top-level domain looks like that.
func numeric(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	for i := 0; i < len(digits); i++ {
		c := digits[i]
		if !('0' <= c && c <= '9' || hex && 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}

// reservedHost reports whether Exeat answers at host itself.
func reservedHost(host string) bool {
	return host == HostAPI || strings.HasSuffix(host, "."+HostAPI)
}

// parseAuthority splits host and port (RFC 3986 section 3.2) and brings the
// host into lower case. It takes names only: a call by address has no
// destination, in whatever notation.
func parseAuthority(authority, scheme string) (host string, port uint16, err error) {
	if len(authority) > maxAuthority {
		return "", 0, errAuthorityLong
	}
	if strings.ContainsRune(authority, '@') {
		return "", 0, errUserinfo
	}
	if strings.ContainsAny(authority, "[]") || strings.Count(authority, ":") > 1 {
		return "", 0, ErrByAddress
	}
	host, digits, explicit := strings.Cut(authority, ":")
	port = defaultPort(scheme)
	if explicit {
		if port, err = parsePort(digits); err != nil {
			return "", 0, err
		}
	}
	host = lowerASCII(host)
	switch hostFault(host) {
	case "":
		return host, port, nil
	case "is an address":
		return "", 0, ErrByAddress
	default:
		return "", 0, errHost
	}
}

// defaultPort of a scheme (RFC 9110 section 4.2).
func defaultPort(scheme string) uint16 {
	if scheme == "http" {
		return 80
	}
	return 443
}

// parsePort reads 1 to 65535 in plain decimal, without leading zeros.
func parsePort(s string) (uint16, error) {
	if s == "" || len(s) > 5 || s[0] == '0' {
		return 0, errPort
	}
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] < '0' || s[i] > '9' {
			return 0, errPort
		}
		n = n*10 + int(s[i]-'0')
	}
	if n > 65535 {
		return 0, errPort
	}
	return uint16(n), nil
}

// lowerASCII folds A to Z alone: Unicode folding would turn the Kelvin sign
// into a k, and so one name into another.
func lowerASCII(s string) string {
	for i := 0; i < len(s); i++ {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// parseTarget reads a request target in origin form (RFC 9112 section 3.2.1)
// into path, segments and query. It refuses what two parties could read in two
// ways: a decision on the one reading would be worth nothing at the other.
func (c *Call) parseTarget(target string) error {
	if len(target) > maxTarget {
		return errTargetLong
	}
	if target == "" || target[0] != '/' {
		return errTargetForm
	}
	path, query, _ := strings.Cut(target, "?")
	if err := c.parsePath(path); err != nil {
		return err
	}
	return c.parseQuery(query)
}

// parsePath splits and decodes a path that begins with a slash. Its canonical
// form is a function of its segments alone: every octet that may stand for
// itself does (RFC 3986 section 6.2.2), and parsing it gives the same again.
func (c *Call) parsePath(path string) error {
	n := strings.Count(path, "/")
	if n > maxSegments {
		return errSegments
	}
	c.Segments = make([]string, 0, n)
	rest, more := path[1:], true
	for more {
		var raw string
		raw, rest, more = strings.Cut(rest, "/")
		if raw == "" && more {
			return errEmptySegment
		}
		s, err := decodeSegment(raw)
		if err != nil {
			return err
		}
		c.Segments = append(c.Segments, s)
	}
	c.Path = joinPath(path, c.Segments)
	return nil
}

// decodeSegment decodes one segment. Allocates only when something is encoded.
func decodeSegment(raw string) (string, error) {
	encoded := false
	for i := 0; i < len(raw); i++ {
		if raw[i] == '%' {
			encoded = true
		} else if !isPathChar(raw[i]) {
			return "", errPathChar
		}
	}
	s := raw
	if encoded {
		var err error
		if s, err = unescape(raw, false); err != nil {
			return "", err
		}
		if !utf8.ValidString(s) {
			return "", errUTF8
		}
	}
	return s, segmentError(s)
}

// segmentError refuses decoded segments that another reader may take for
// something else: structure that was hidden by encoding, encoding within the
// encoding, and names for the directory and its parent.
func segmentError(s string) error {
	if s == "." || s == ".." {
		return errDotSegment
	}
	for _, r := range s {
		if !segmentRune(r) {
			return errAmbiguous
		}
	}
	return nil
}

// segmentRune reports whether a decoded segment may hold r. Not allowed are
// the separators of any common server (; begins a parameter in some, so that
// "..;" is a parent there), a percent sign (decoded again it changes meaning),
// their fullwidth forms (best-fit mapped by some), and what does not print.
func segmentRune(r rune) bool {
	switch r {
	case '/', '\\', '%', ';', '\uFF0F', '\uFF3C', '\uFF05', '\uFF1B', '\uFF0E':
		return false
	}
	return unicode.IsPrint(r)
}

// isPathChar: pchar of RFC 3986 section 3.3, without the percent sign that
// begins an encoding and the semicolon that segmentRune refuses.
func isPathChar(c byte) bool {
	return isUnreserved(c) || strings.IndexByte("!$&'()*+,=:@", c) >= 0
}

func isUnreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '.' || c == '_' || c == '~'
}

// joinPath writes the canonical path of segments; raw is given back when it
// already is that.
func joinPath(raw string, segments []string) string {
	if !strings.Contains(raw, "%") {
		return raw
	}
	b := make([]byte, 0, len(raw))
	for _, s := range segments {
		b = append(b, '/')
		for i := 0; i < len(s); i++ {
			if c := s[i]; isPathChar(c) {
				b = append(b, c)
			} else {
				b = append(b, '%', upperHex[c>>4], upperHex[c&15])
			}
		}
	}
	return string(b)
}

const upperHex = "0123456789ABCDEF"

// parseQuery reads application/x-www-form-urlencoded parameters in order.
// Duplicates are kept: whether they are allowed is the rule's to say. A raw
// semicolon is refused, because some servers split there.
func (c *Call) parseQuery(query string) error {
	if query == "" {
		return nil
	}
	if strings.Count(query, "&") >= maxQuery {
		return errQueryMany
	}
	rest, more := query, true
	for more {
		var piece string
		piece, rest, more = strings.Cut(rest, "&")
		if piece == "" { // every server skips it
			continue
		}
		name, value, _ := strings.Cut(piece, "=")
		n, err := decodeQuery(name)
		if err != nil {
			return err
		}
		v, err := decodeQuery(value)
		if err != nil {
			return err
		}
		if n == "" {
			return errQueryName
		}
		c.Query = append(c.Query, QueryParam{n, v})
	}
	return nil
}

// decodeQuery decodes a name or a value: + and %20 are a space. An encoded
// percent sign is plain text here; nothing in a query is structure once split.
func decodeQuery(raw string) (string, error) {
	encoded := false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case c == '%' || c == '+':
			encoded = true
		case c <= ' ' || c >= 0x7f || strings.IndexByte("#;\\\"<>", c) >= 0:
			return "", errQueryChar
		}
	}
	if !encoded {
		return raw, nil
	}
	s, err := unescape(raw, true)
	switch {
	case err != nil:
		return "", err
	case !utf8.ValidString(s):
		return "", errUTF8
	case strings.IndexFunc(s, unicode.IsControl) >= 0:
		return "", errQueryChar
	}
	return s, nil
}

// unescape decodes percent-encodings, and + as a space where plus is set.
func unescape(s string, plus bool) (string, error) {
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '+' && plus:
			b = append(b, ' ')
		case s[i] != '%':
			b = append(b, s[i])
		case i+2 >= len(s):
			return "", errEncoding
		default:
			hi, lo := fromHex(s[i+1]), fromHex(s[i+2])
			if hi > 15 || lo > 15 {
				return "", errEncoding
			}
			b = append(b, hi<<4|lo)
			i += 2
		}
	}
	return string(b), nil
}

func fromHex(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10
	}
	return 255
}

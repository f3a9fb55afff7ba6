package audit

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds on what one field takes, in bytes before escaping, so that no caller
// fills the disk with one call. What is longer ends in an ellipsis.
const (
	maxText  = 512
	maxPath  = 4096
	maxItems = 64
)

const ellipsis = "\u2026"

// encoder appends JSON to a buffer, without reflection: it is on the way of
// every call. Its methods keep the commas right.
type encoder struct{ b []byte }

// comma separates from what is before, if anything is.
func (e *encoder) comma() {
	if n := len(e.b); n > 0 && e.b[n-1] != '{' && e.b[n-1] != '[' {
		e.b = append(e.b, ',')
	}
}

// key writes a member's name, which is one of ours and needs no escaping.
func (e *encoder) key(name string) {
	e.comma()
	e.b = append(e.b, '"')
	e.b = append(e.b, name...)
	e.b = append(e.b, '"', ':')
}

func (e *encoder) open(name string)  { e.key(name); e.b = append(e.b, '{') }
func (e *encoder) close()            { e.b = append(e.b, '}') }
func (e *encoder) array(name string) { e.key(name); e.b = append(e.b, '[') }
func (e *encoder) end()              { e.b = append(e.b, ']') }

// text writes a member unless it is empty.
func (e *encoder) text(name, value string) { e.bounded(name, value, maxText) }

func (e *encoder) bounded(name, value string, limit int) {
	if value == "" {
		return
	}
	e.key(name)
	e.b = appendString(e.b, value, limit)
}

func (e *encoder) number(name string, n int64) {
	e.key(name)
	e.b = strconv.AppendInt(e.b, n, 10)
}

// count writes a member unless it is zero.
func (e *encoder) count(name string, n int64) {
	if n != 0 {
		e.number(name, n)
	}
}

// flag writes a member only when it is true.
func (e *encoder) flag(name string, v bool) {
	if v {
		e.key(name)
		e.b = append(e.b, "true"...)
	}
}

// when writes a time in RFC 3339 with nanoseconds, UTC, unless it is zero.
func (e *encoder) when(name string, t time.Time) {
	if t.IsZero() {
		return
	}
	e.key(name)
	e.b = append(e.b, '"')
	e.b = t.UTC().AppendFormat(e.b, time.RFC3339Nano)
	e.b = append(e.b, '"')
}

// list writes a list of strings unless it is empty.
func (e *encoder) list(name string, values []string) {
	if len(values) == 0 {
		return
	}
	e.array(name)
	for i, v := range values {
		if i == maxItems {
			v = ellipsis
		}
		e.comma()
		e.b = appendString(e.b, v, maxText)
		if i == maxItems {
			break
		}
	}
	e.end()
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string that is one visible line wherever it
// is shown: whatever does not print is escaped, which covers controls, line and
// paragraph separators, and the marks that change reading direction or hide.
// Invalid UTF-8 becomes U+FFFD.
func appendString(b []byte, s string, limit int) []byte {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	b = append(b, '"')
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			b = appendASCII(b, c)
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		// The last rune may be cut in half, which is no fault of the caller's.
		if r == utf8.RuneError && size == 1 && cut && len(s)-i < utf8.UTFMax {
			break
		}
		b = appendRune(b, r)
		i += size
	}
	if cut {
		b = append(b, ellipsis...)
	}
	return append(b, '"')
}

func appendASCII(b []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(b, '\\', c)
	case c < 0x20 || c == 0x7f:
		return append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
	default:
		return append(b, c)
	}
}

func appendRune(b []byte, r rune) []byte {
	switch {
	case unicode.IsPrint(r):
		return utf8.AppendRune(b, r)
	case r > 0xffff: // as a surrogate pair (RFC 8259 section 7)
		r -= 0x10000
		b = appendUnit(b, 0xd800+uint16(r>>10))
		return appendUnit(b, 0xdc00+uint16(r&0x3ff))
	default:
		return appendUnit(b, uint16(r))
	}
}

func appendUnit(b []byte, u uint16) []byte {
	return append(b, '\\', 'u', hexDigits[u>>12], hexDigits[u>>8&15], hexDigits[u>>4&15], hexDigits[u&15])
}

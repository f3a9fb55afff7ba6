package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// visible writes a text so that it shows as what it is, on one line. What does
// not print, what turns the direction of writing, what hides and what is put
// upon another character is escaped. A text that is not all ASCII is followed by
// its code points: letters of other scripts look like ours, alone as well as
// mixed (Unicode Technical Standard 39).
func visible(s string) string {
	var b strings.Builder
	foreign := false
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, s[i]) // no UTF-8
		case r < utf8.RuneSelf && unicode.IsPrint(r):
			b.WriteRune(r)
		case shows(r):
			foreign = true
			b.WriteRune(r)
		default:
			b.WriteString(escaped(r))
		}
	}
	if !foreign {
		return b.String()
	}
	return b.String() + " " + codePoints(s)
}

// shows reports whether a character stands by itself and is seen.
func shows(r rune) bool {
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Mn, unicode.Me, unicode.Mc, unicode.Cf, unicode.Zs, unicode.Other_Default_Ignorable_Code_Point)
}

func escaped(r rune) string { return fmt.Sprintf(`\u{%04x}`, r) }

// codePoints says which characters are not ASCII, and of which scripts they are.
func codePoints(s string) string {
	var points strings.Builder
	scripts := map[string]bool{}
	for _, r := range s {
		if r < utf8.RuneSelf {
			if unicode.IsLetter(r) {
				scripts["Latin"] = true
			}
			points.WriteRune(r)
			continue
		}
		points.WriteString(escaped(r))
		if name := scriptOf(r); name != "" {
			scripts[name] = true
		}
	}
	note := "not all ASCII"
	if names := sorted(scripts); len(names) > 1 {
		note = "mixes " + strings.Join(names, " and ")
	} else if len(names) == 1 && names[0] != "Latin" {
		note = "all " + names[0]
	}
	if !norm.NFKC.IsNormalString(s) {
		note += ", in a compatibility form"
	}
	// The escapes hold no control: what is ASCII and does not print was none of ours.
	return "[" + note + ": " + strings.Map(printable, points.String()) + "]"
}

func printable(r rune) rune {
	if r < utf8.RuneSelf && unicode.IsPrint(r) {
		return r
	}
	return '?'
}

func sorted(names map[string]bool) []string {
	list := make([]string, 0, len(names))
	for n := range names {
		list = append(list, n)
	}
	slices.Sort(list)
	return list
}

// scriptOf names a character's script; empty for one that all scripts share.
func scriptOf(r rune) string {
	for name, table := range unicode.Scripts {
		if name != "Common" && name != "Inherited" && unicode.Is(table, r) {
			return name
		}
	}
	return ""
}

// paragraph writes a text of several lines, each behind a bar, so that none can
// pass for a line of ours.
func paragraph(s, indent string) string {
	var b strings.Builder
	for line := range strings.SplitSeq(s, "\n") {
		b.WriteString(indent + "| " + visible(line) + "\n")
	}
	return b.String()
}

// asciiJSON escapes whatever is not ASCII in a JSON text, where it can only be
// within strings.
func asciiJSON(text []byte) []byte {
	var b []byte
	for _, r := range string(text) {
		switch {
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		case r > 0xffff: // a surrogate pair (RFC 8259 section 7)
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return b
}

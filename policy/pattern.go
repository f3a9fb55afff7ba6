package policy

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// The one small language of the catalog:
//
//   - ${name} stands for a parameter's value, always inserted quoted: a value
//     is text, never part of the language.
//   - A pattern is RE2, anchored at both ends. ${name} may stand where an atom
//     may, never inside a character class.
//   - A list (an agent's narrowing) means any of these literals.
//   - In a path, * as a whole segment is any one segment, and ** may stand
//     last and is any rest.
//
// All of it is parsed once, by Compile, and inserted once, by Resolve; a call
// is matched against the result.

// Bounds on what an author may write; a catalog is input, too.
const (
	maxPattern = 1024 // bytes of a pattern as written
	maxLoose   = 8192 // bytes of a pattern with its parameters' patterns inserted
)

// part is a piece of a template: a text, or the parameter that stands there.
type part struct{ text, param string }

// template is a text with parameters in it, parsed.
type template []part

func (t template) withText(s string) template {
	if s == "" {
		return t
	}
	return append(t, part{text: s})
}

// params lists the parameters in the order of their first occurrence.
func (t template) params() []string {
	var names []string
	seen := map[string]bool{}
	for _, p := range t {
		if p.param != "" && !seen[p.param] {
			seen[p.param] = true
			names = append(names, p.param)
		}
	}
	return names
}

// known reports whether values holds every parameter of the template.
func (t template) known(values map[string]string) bool {
	for _, p := range t {
		if _, ok := values[p.param]; p.param != "" && !ok {
			return false
		}
	}
	return true
}

// fill inserts values as they are: for places where text is compared with text.
func (t template) fill(values map[string]string) string {
	if len(t) == 1 && t[0].param == "" {
		return t[0].text
	}
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.text)
		if p.param != "" {
			b.WriteString(values[p.param])
		}
	}
	return b.String()
}

// source inserts values quoted into a pattern. The group keeps what follows,
// such as +, about the whole value.
func (t template) source(values map[string]string) string {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.text)
		if p.param != "" {
			b.WriteString("(?:" + regexp.QuoteMeta(values[p.param]) + ")")
		}
	}
	return b.String()
}

// parseTemplate reads a text in which ${name} is a parameter.
func parseTemplate(s string) (template, error) {
	var t template
	for {
		i := strings.Index(s, "${")
		if i < 0 {
			return t.withText(s), nil
		}
		name, n, err := paramAt(s[i:])
		if err != nil {
			return nil, err
		}
		t = append(t.withText(s[:i]), part{param: name})
		s = s[i+n:]
	}
}

// paramAt reads the ${name} that s begins with and its length.
func paramAt(s string) (name string, length int, err error) {
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return "", 0, errors.New("a ${ is not closed; want ${name}")
	}
	name = s[len("${"):end] // a nested ${ makes it no name
	if !isParamName(name) {
		return "", 0, fmt.Errorf("%q is not a parameter name; want letters, digits, _ and -, a letter first", name)
	}
	return name, end + 1, nil
}

func isParamName(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z':
		case i > 0 && ('0' <= c && c <= '9' || c == '_' || c == '-'):
		default:
			return false
		}
	}
	return s != "" && len(s) <= 63
}

// parsePattern reads an RE2 pattern in which ${name} is a parameter. It finds
// parameters only where an atom may stand: a backslash before the dollar makes
// it ordinary text, and inside a class a value could become a range.
func parsePattern(s string) (template, error) {
	if s == "" {
		return nil, errors.New("there is no pattern; want an RE2 pattern")
	}
	if len(s) > maxPattern {
		return nil, fmt.Errorf("longer than %d bytes", maxPattern)
	}
	var t template
	start, class := 0, false
	for i := 0; i < len(s); {
		if !strings.HasPrefix(s[i:], "${") {
			n, err := patternToken(s[i:], &class)
			if err != nil {
				return nil, err
			}
			i += n
			continue
		}
		if class {
			return nil, errors.New("a parameter cannot stand in a character class; put it outside the brackets")
		}
		name, n, err := paramAt(s[i:])
		if err != nil {
			return nil, err
		}
		t = append(t.withText(s[start:i]), part{param: name})
		i += n
		start = i
	}
	return t.withText(s[start:]), nil
}

// patternToken gives the length of the piece of RE2 that s begins with, and
// follows whether the pattern is inside a character class.
func patternToken(s string, class *bool) (int, error) {
	switch {
	case strings.HasPrefix(s, `\Q`):
		return 0, errors.New(`\Q cannot be used here; escape each character with a backslash`)
	case s[0] == '\\':
		return min(2, len(s)), nil
	case s[0] == '[' && !*class:
		*class = true
		n := 1
		if strings.HasPrefix(s[n:], "^") {
			n++
		}
		if strings.HasPrefix(s[n:], "]") { // first in a class it is a literal
			n++
		}
		return n, nil
	case strings.HasPrefix(s, "[:"):
		if end := strings.Index(s, ":]"); end >= 0 {
			return end + len(":]"), nil
		}
	case s[0] == ']':
		*class = false
	}
	return 1, nil
}

// matcher is a pattern ready for values: a literal where it is one, else an
// expression anchored at both ends. The zero matcher matches nothing.
type matcher struct {
	literal string
	re      *regexp.Regexp
}

func (m *matcher) match(s string) bool {
	if m.re != nil {
		return m.re.MatchString(s)
	}
	return m.literal != "" && s == m.literal
}

// compileSource makes a matcher. The source is parsed alone first, because a
// stray parenthesis could close the group that anchors it.
func compileSource(src string) (matcher, error) {
	parsed, err := syntax.Parse(src, syntax.Perl)
	if err != nil {
		return matcher{}, err
	}
	if impossible(parsed) {
		return matcher{}, errors.New("the pattern can match nothing")
	}
	for _, name := range parsed.CapNames() {
		if name != "" {
			return matcher{}, errors.New("a named group means nothing here; use (?:...)")
		}
	}
	// Most patterns in bound rules are literals once their values are in.
	bare, err := regexp.Compile(src)
	if err != nil {
		return matcher{}, err
	}
	if literal, whole := bare.LiteralPrefix(); whole && literal != "" {
		return matcher{literal: literal}, nil
	}
	re, err := anchored(src)
	return matcher{re: re}, err
}

// impossible reports whether an expression can match nothing because it needs
// a character of an empty class.
func impossible(re *syntax.Regexp) bool {
	switch re.Op {
	case syntax.OpNoMatch:
		return true
	case syntax.OpCharClass:
		return len(re.Rune) == 0
	case syntax.OpCapture, syntax.OpPlus, syntax.OpConcat:
		return slices.ContainsFunc(re.Sub, impossible)
	case syntax.OpRepeat:
		return re.Min > 0 && impossible(re.Sub[0])
	case syntax.OpAlternate:
		return !slices.ContainsFunc(re.Sub, func(s *syntax.Regexp) bool { return !impossible(s) })
	}
	return false
}

// anchored compiles src for whole texts only. \z, not $, which lets a line
// break follow.
func anchored(src string) (*regexp.Regexp, error) { return regexp.Compile(`\A(?:` + src + `)\z`) }

// loosen gives the pattern's source with each parameter replaced by the source
// that covers all of its values.
func (t template) loosen(loose map[string]string) (string, error) {
	var b strings.Builder
	for _, p := range t {
		b.WriteString(p.text)
		if p.param != "" {
			b.WriteString("(?:" + loose[p.param] + ")")
		}
		if b.Len() > maxLoose { // nested parameters double quickly
			return "", errors.New("too long once its parameters' patterns are inserted")
		}
	}
	return b.String(), nil
}

// inference reads parameters back out of a text in which they stand. What it
// reads is a guess to be verified: a text may be read several ways.
type inference struct {
	re     *regexp.Regexp
	params []string
}

// inferFrom makes an inference from a template; quote when its texts are
// literals, not pieces of a pattern.
func inferFrom(t template, loose map[string]string, quote bool) (inference, error) {
	var b strings.Builder
	var in inference
	for _, p := range t {
		switch text := p.text; {
		case p.param != "" && !slices.Contains(in.params, p.param):
			fmt.Fprintf(&b, "(?P<p%d>%s)", len(in.params), loose[p.param])
			in.params = append(in.params, p.param)
		case p.param != "":
			b.WriteString("(?:" + loose[p.param] + ")")
		case quote:
			b.WriteString(regexp.QuoteMeta(text))
		default:
			b.WriteString(text)
		}
	}
	if b.Len() > 2*maxLoose {
		return inference{}, errors.New("too long once its parameters' patterns are inserted")
	}
	var err error
	in.re, err = anchored(b.String())
	return in, err
}

// read adds the parameters found in text to values. False: the text does not
// fit, or contradicts what is there.
func (in *inference) read(text string, values map[string]string) bool {
	if in.re == nil {
		return false
	}
	m := in.re.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	for i, name := range in.params {
		v := m[in.re.SubexpIndex(fmt.Sprintf("p%d", i))]
		if old, ok := values[name]; ok && old != v {
			return false
		}
		values[name] = v
	}
	return true
}

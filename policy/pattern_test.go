package policy

import (
	"regexp/syntax"
	"slices"
	"testing"
)

func TestParametersStandWhereAnAtomMay(t *testing.T) {
	t.Parallel()
	for src, want := range map[string][]string{
		`a`:               nil,
		`${x}`:            {"x"},
		`${x}-${y}-${x}`:  {"x", "y"},
		`$`:               nil,
		`a$|${x}$`:        {"x"},
		`\${x}`:           nil, // an escaped dollar is a dollar
		`\\${x}`:          {"x"},
		`[a-z]${x}`:       {"x"},
		`[]]${x}`:         {"x"},
		`[^]]${x}`:        {"x"},
		`[[:alpha:]]${x}`: {"x"},
		`[\]]${x}`:        {"x"},
		`(?i:${x})+`:      {"x"},
		`${long_Name-1}`:  {"long_Name-1"},
	} {
		parsed, err := parsePattern(src)
		if err != nil || !slices.Equal(parsed.params(), want) {
			t.Errorf("%s: %v, %v", src, parsed, err)
		}
	}
	for _, src := range []string{``, `[${x}]`, `[^${x}]`, `[]${x}]`, `[[:alpha:]${x}]`, `[\]${x}]`, `${`, `${}`, `${1}`, `${x y}`, `${x`, `\Q${x}\E`, `a\Qb`} {
		if parsed, err := parsePattern(src); err == nil {
			t.Errorf("%s: %v", src, parsed)
		}
	}
}

func TestPatternsAreAnchored(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		src, text string
		want      bool
	}{
		{"a|b", "a", true}, {"a|b", "b", true}, {"a|b", "ab", false}, {"a|b", "xb", false},
		{"abc", "abc", true}, {"abc", "abcd", false}, {"abc", "", false},
		{"a.c", "a\nc", false}, {"abc$", "abc\n", false}, {"(?m)^a$", "a\nb", false}, {"(?m)^a$", "a", true},
		{"(?i)abc", "ABC", true}, {"a*", "", true}, {`\$`, "$", true}, {`a\.c`, "abc", false}, {`a\.c`, "a.c", true},
	} {
		m, err := compileSource(tt.src)
		if err != nil || m.match(tt.text) != tt.want {
			t.Errorf("%q against %q: %v, %v", tt.src, tt.text, m.match(tt.text), err)
		}
	}
	for _, src := range []string{"a)(b", "(", `a\`, "(?P<x>a)", "[^\\x00-\\x{10FFFF}]", "a[^\\x00-\\x{10FFFF}]+", "(?:[^\\x00-\\x{10FFFF}])|([^\\x00-\\x{10FFFF}]){2}"} {
		if _, err := compileSource(src); err == nil {
			t.Errorf("%s compiles", src)
		}
	}
	if _, err := compileSource("a|[^\\x00-\\x{10FFFF}]*"); err != nil {
		t.Error(err)
	}
}

// FuzzPattern: an inserted value is never read as part of the language. The
// value is two characters that no pattern here holds: after insertion they may
// only stand in a row, as text.
func FuzzPattern(f *testing.F) {
	for _, src := range []string{"${x}", "a${x}+|b", `[a\]]${x}`, `[[:alpha:]]${x}`, `\p{Greek}${x}`, `(?i)${x}{2}`, `\${x}${x}`, `[^]a]${x}`, `\x{41}${x}`} {
		f.Add(src)
	}
	const first, second = '\uE000', '\uE001'
	f.Fuzz(func(t *testing.T, src string) {
		parsed, err := parsePattern(src)
		if err != nil || slices.ContainsFunc([]rune(src), func(r rune) bool { return r >= first && r <= second }) {
			return
		}
		values := map[string]string{}
		for _, name := range parsed.params() {
			values[name] = string([]rune{first, second})
		}
		re, err := syntax.Parse(parsed.source(values), syntax.Perl)
		if err == nil && len(values) > 0 {
			checkText(t, re, first, second)
		}
	})
}

func checkText(t *testing.T, re *syntax.Regexp, first, second rune) {
	if re.Op == syntax.OpLiteral {
		for i, r := range re.Rune {
			if r == first && (i+1 == len(re.Rune) || re.Rune[i+1] != second) || r == second && (i == 0 || re.Rune[i-1] != first) {
				t.Fatalf("the value was taken apart in %s", re)
			}
		}
	}
	if re.Op == syntax.OpCharClass && slices.ContainsFunc(re.Rune, func(r rune) bool { return r == first || r == second }) {
		t.Fatalf("the value is in class %s", re)
	}
	for _, sub := range re.Sub {
		checkText(t, sub, first, second)
	}
}

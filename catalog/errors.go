package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Error is one thing wrong with a catalog.
type Error struct {
	// File as named inside the folder; the folder's own name when it is at fault.
	File string `json:"file"`
	// Line from 1; 0 when it belongs to no line.
	Line int `json:"line,omitempty"`
	// Field is a path such as spec.calls[0].path; empty when it belongs to none.
	Field string `json:"field,omitempty"`
	// Message says what is wrong and what would be right.
	Message string `json:"message"`
}

// Error gives "tickets.yaml:12: spec.calls[0].path: what is wrong".
func (e Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d", e.Line)
	}
	b.WriteString(": ")
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Message)
	return printable(b.String())
}

// Errors are all that is wrong, in the order of files and lines. None is nil.
type Errors []Error

// Error gives one error a line.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Summary counts: "3 errors in 2 files".
func (es Errors) Summary() string {
	files := map[string]bool{}
	for _, e := range es {
		files[e.File] = true
	}
	return count(len(es), "error") + " in " + count(len(files), "file")
}

// sorted brings errors into order and drops repetitions.
func (es Errors) sorted() Errors {
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Field, b.Field), cmp.Compare(a.Message, b.Message))
	})
	return slices.Compact(es)
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

// printable makes field names that someone chose safe for a terminal and for
// one log line: what does not print is escaped.
func printable(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) < 0 {
		return s
	}
	quoted := strconv.QuoteToGraphic(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

package catalog

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// piece is the text of one document, its number of lines, and that of the lines
// before it.
type piece struct {
	text   []byte
	lines  int
	before int
}

// split cuts a file at its document markers (YAML 1.2.2 section 9.1.2), so that
// a syntax error in one document does not hide the others. A line that begins
// with a marker is one wherever it stands.
func split(text []byte) []piece {
	var pieces []piece
	current, content := piece{}, false
	for number, line := range bytes.SplitAfter(text, []byte("\n")) {
		if content && isMarker(line, "---") {
			pieces = append(pieces, current)
			current, content = piece{before: number}, false
		}
		if len(line) > 0 {
			current.text = append(current.text, line...)
			current.lines++
		}
		content = content || isContent(line)
	}
	return append(pieces, current)
}

func isMarker(line []byte, marker string) bool {
	rest, found := bytes.CutPrefix(line, []byte(marker))
	return found && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t' || rest[0] == '\n' || rest[0] == '\r')
}

// isContent tells a document from the directives and comments that may
// precede its marker.
func isContent(line []byte) bool {
	line = bytes.TrimSpace(line)
	return len(line) > 0 && line[0] != '#' && line[0] != '%'
}

// parse reads the one document of a piece; nil when it holds comments only.
// Lines of nodes and errors are lines of the file.
func (p piece) parse(name string) (*yaml.Node, *Error) {
	// The leading line break gives every error of the parser a line.
	dec := yaml.NewDecoder(io.MultiReader(strings.NewReader("\n"), bytes.NewReader(p.text)))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, p.syntaxError(name, err)
	}
	if err := dec.Decode(new(yaml.Node)); err == nil {
		return nil, p.syntaxError(name, errors.New("a second document begins without a line ---"))
	} else if !errors.Is(err, io.EOF) {
		return nil, p.syntaxError(name, err)
	}
	if len(doc.Content) != 1 || isNull(doc.Content[0]) {
		return nil, nil
	}
	return doc.Content[0], nil
}

// line turns a line of what was parsed into one of the file. The parser sees
// the end of a text one line below its last.
func (p piece) line(n int) int {
	return p.before + max(min(n-1, p.lines), 1)
}

// The parser counts lines from 0 in the errors of its grammar and from 1 in
// those of its scanner. These are the grammar's.
func isGrammar(message string) bool {
	rest, found := strings.CutPrefix(message, "did not find expected ")
	switch rest {
	case "<stream-start>", "<document start>", "node content", "'-' indicator", "key", "',' or ']'", "',' or '}'":
		return found
	}
	return strings.HasPrefix(message, "found undefined tag handle") || strings.HasPrefix(message, "found duplicate %")
}

func (p piece) syntaxError(name string, err error) *Error {
	message := strings.TrimPrefix(err.Error(), "yaml: ")
	line := 1
	if rest, found := strings.CutPrefix(message, "line "); found {
		if digits, text, found := strings.Cut(rest, ": "); found {
			line, _ = strconv.Atoi(digits)
			message = text
		}
	}
	if isGrammar(message) {
		line++
	}
	if anchor, found := strings.CutPrefix(message, "unknown anchor '"); found { // said without a line
		anchor, _, _ = strings.Cut(anchor, "'")
		before, _, _ := bytes.Cut(p.text, []byte("*"+anchor))
		message, line = "an alias names no anchor before it", 2+bytes.Count(before, []byte("\n"))
	}
	if message == "found incompatible YAML document" {
		message = "leave out the line that begins with %YAML"
	}
	return &Error{File: name, Line: p.line(line), Message: "not YAML, near this line: " + message}
}

// checkText refuses what must not come near the parser: text that is not
// UTF-8, and control characters (YAML 1.2.2 section 5.1).
func checkText(f file) *Error {
	line := 1
	for rest := f.text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			return &Error{File: f.name, Line: line, Message: "not UTF-8: save the file in that encoding"}
		case r == '\n':
			line++
		case r != '\t' && r != '\r' && unicode.IsControl(r):
			return &Error{File: f.name, Line: line, Message: fmt.Sprintf("holds the control character %U", r)}
		}
		rest = rest[size:]
	}
	return nil
}

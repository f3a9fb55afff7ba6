package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Limits of a request body.
const (
	maxBody  = 64 << 10 // bytes
	maxDepth = 32       // arrays and objects inside each other
	maxField = 200      // bytes of a field path in an answer
)

// scanJSON checks what encoding/json would let through: two readers must not
// be able to understand one body in two ways (RFC 8259 sections 4 and 8.1). It
// returns nil when data is exactly one well-formed JSON text. Unless nulls says
// otherwise no value is null: what has none is left out.
func scanJSON(data []byte, nulls bool) *Problem {
	if !utf8.Valid(data) {
		return problem(codeInvalidUTF8, "The body is not valid UTF-8; send JSON in UTF-8 (RFC 8259 section 8.1).")
	}
	s := scanner{dec: json.NewDecoder(bytes.NewReader(data)), nulls: nulls}
	s.dec.UseNumber()
	for {
		token, err := s.dec.Token()
		if errors.Is(err, io.EOF) && s.begun && len(s.frames) == 0 {
			return nil
		}
		if err != nil {
			// The decoder's own words may quote the body, so they are not passed on.
			return problem(codeInvalidJSON, "The body is not well-formed JSON.").at(s.path())
		}
		if p := s.take(token); p != nil {
			return p
		}
	}
}

// scanner follows the tokens of one JSON text and knows where it is.
type scanner struct {
	dec    *json.Decoder
	frames []frame
	begun  bool
	nulls  bool // null is a value
}

// frame is one open array or object.
type frame struct {
	seen  map[string]struct{} // keys so far; nil for an array
	key   string              // the member that comes or is being read
	value bool                // in an object: a value comes next
	index int                 // in an array: position of the next item
}

func (s *scanner) take(token json.Token) *Problem {
	if len(s.frames) == 0 {
		if s.begun {
			return problem(codeTrailingData, "Something follows the JSON text; send exactly one JSON object.")
		}
		s.begun = true
	}
	switch t := token.(type) {
	case json.Delim:
		return s.delim(t)
	case string:
		return s.text(t)
	case nil:
		if !s.nulls {
			return problem(codeInvalidJSON, "null is no value here; leave the field out.").at(s.path())
		}
	}
	s.next()
	return nil
}

func (s *scanner) delim(d json.Delim) *Problem {
	switch d {
	case '}', ']':
		s.frames = s.frames[:len(s.frames)-1]
		s.next()
		return nil
	case '{':
		s.frames = append(s.frames, frame{seen: map[string]struct{}{}})
	default:
		s.frames = append(s.frames, frame{})
	}
	if len(s.frames) > maxDepth {
		return problem(codeTooDeep, "The body nests deeper than "+strconv.Itoa(maxDepth)+" levels.").at(s.path())
	}
	return nil
}

// text takes a string: a member's name or a value.
func (s *scanner) text(t string) *Problem {
	top := s.top()
	if top != nil && top.seen != nil && !top.value {
		top.key, top.value = t, true
		if _, dup := top.seen[t]; dup {
			return problem(codeDuplicateKey, "A name occurs twice in one object; send it once.").at(s.path())
		}
		top.seen[t] = struct{}{}
		return clean(t, s)
	}
	p := clean(t, s)
	s.next()
	return p
}

// clean refuses a lone surrogate, which the decoder has replaced by U+FFFD. A
// U+FFFD that was really sent is refused with it: it stands for lost text.
func clean(t string, s *scanner) *Problem {
	if !strings.ContainsRune(t, utf8.RuneError) {
		return nil
	}
	return problem(codeInvalidUTF8, "A string holds U+FFFD or half of a surrogate pair.").at(s.path())
}

// next moves on after a whole value.
func (s *scanner) next() {
	if top := s.top(); top != nil {
		top.value = false
		if top.seen == nil {
			top.index++
		}
	}
}

func (s *scanner) top() *frame {
	if len(s.frames) == 0 {
		return nil
	}
	return &s.frames[len(s.frames)-1]
}

// path names the field that is being read, such as claimed.context.
func (s *scanner) path() string {
	var b strings.Builder
	for _, f := range s.frames {
		switch {
		case f.seen == nil:
			b.WriteString("[" + strconv.Itoa(f.index) + "]")
		case f.key != "" && b.Len() > 0:
			b.WriteString("." + f.key)
		default:
			b.WriteString(f.key)
		}
	}
	return shorten(b.String())
}

// shorten keeps a path that a caller can make arbitrarily long presentable.
func shorten(path string) string {
	if len(path) <= maxField {
		return path
	}
	return strings.ToValidUTF8(path[:maxField], "") + "..."
}

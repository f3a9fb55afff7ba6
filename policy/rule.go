package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// rule is a call rule of a capability, its parameters still open.
type rule struct {
	method    string
	host      template // nil: every host of the destination
	path      []pathPart
	rest      bool                // ** at the end
	query     map[string]template // patterns by name
	anyQuery  bool
	anyBody   bool
	hostFrom  inference // of the parameters in host, for suggestions
	queryFrom map[string]inference
}

// pathPart is one segment of a rule's path.
type pathPart struct {
	text template
	any  bool
	from inference // of the parameters in text; none without
}

// bound is a rule with its parameters inserted. The zero bound covers nothing.
type bound struct {
	method            string
	host              string // empty: every host of the destination
	path              []boundPart
	rest              bool
	query             []boundQuery // in order of their names
	anyQuery, anyBody bool
	width             uint32 // see rule.width
}

// boundPart is one segment: a text, or any one.
type boundPart struct {
	text string
	any  bool
}

type boundQuery struct {
	name    string
	source  string // what match was made of, for the digest
	matcher matcher
}

// fit says how far a rule covers a call. Each step includes those before.
type fit uint8

const (
	fitNone  fit = iota
	fitPath      // method, host and path
	fitQuery     // and the query
	fitAll       // and the body: the call is covered
)

// reason names what is missing.
func (f fit) reason() Reason {
	switch f {
	case fitAll:
		return Allowed
	case fitQuery:
		return BodyNotGranted
	case fitPath:
		return QueryNotGranted
	default:
		return CallNotGranted
	}
}

// fit compares a call with the rule; literals first, expressions last.
func (b *bound) fit(c *Call) fit {
	switch {
	case b.method == "" || b.method != c.Method, b.host != "" && b.host != c.Host, !b.covers(c.Segments):
		return fitNone
	case !b.takesQuery(c.Query):
		return fitPath
	case c.HasBody && !b.anyBody:
		return fitQuery
	}
	return fitAll
}

// covers compares paths, decoded segment by decoded segment: where a slash is
// was settled when the call was parsed.
func (b *bound) covers(segments []string) bool {
	if len(b.path) == 0 && !b.rest {
		return false
	}
	if len(segments) < len(b.path) || b.rest != (len(segments) > len(b.path)) {
		return false
	}
	for i := range b.path {
		if p := &b.path[i]; p.any && segments[i] == "" || !p.any && segments[i] != p.text {
			return false
		}
	}
	return true
}

// takesQuery: each parameter is listed, fits its pattern and stands once.
// Servers differ on which of two they take, so two are denied.
func (b *bound) takesQuery(q []QueryParam) bool {
	if b.anyQuery {
		return true
	}
	for i := range q {
		if !b.takesParam(&q[i]) {
			return false
		}
		for j := range i {
			if q[j].Name == q[i].Name {
				return false
			}
		}
	}
	return true
}

func (b *bound) takesParam(p *QueryParam) bool {
	for i := range b.query {
		if b.query[i].name == p.Name {
			return b.query[i].matcher.match(p.Value)
		}
	}
	return false
}

// Match says whether the grant's calls cover c: Allowed, or what is missing.
// It takes no lock and allocates nothing.
func (r *Resolved) Match(c *Call) Reason {
	f, _ := r.match(c)
	return f
}

// match also gives the width of the narrowest rule that covers the call.
func (r *Resolved) match(c *Call) (Reason, uint32) {
	switch {
	case r == nil:
		return Internal, 0
	case c == nil || !c.ok:
		return MalformedCall, 0
	case !r.Destination.serves(c):
		return CallNotGranted, 0
	}
	best, width := fitNone, uint32(0)
	for i := range r.rules {
		b := &r.rules[i]
		if f := b.fit(c); f > best || f == fitAll && b.width < width {
			best, width = f, b.width
		}
	}
	return best.reason(), width
}

// bind inserts values. Where optional is set, a query pattern whose parameters
// are not all known is left out, which only narrows.
func (r *rule) bind(values map[string]string, optional bool) (bound, error) {
	b := bound{method: r.method, host: r.host.fill(values), rest: r.rest, anyQuery: r.anyQuery, anyBody: r.anyBody}
	for _, p := range r.path {
		s := boundPart{any: p.any, text: p.text.fill(values)}
		if !p.any && segmentError(s.text) != nil { // such as "." and "." from two values
			return bound{}, errAmbiguous
		}
		b.path = append(b.path, s)
	}
	for _, name := range slices.Sorted(maps.Keys(r.query)) {
		t := r.query[name]
		if optional && !t.known(values) {
			continue
		}
		source := t.source(values)
		m, err := compileSource(source)
		if err != nil {
			return bound{}, err
		}
		b.query = append(b.query, boundQuery{name: name, source: source, matcher: m})
	}
	b.width = r.width()
	return b, nil
}

// width orders rules by how much they let through, most significant first: a
// ** at the end, the number of *, any query, any body, every host, and then
// the fewer segments a path has. The lower, the narrower.
func (r *rule) width() uint32 {
	stars := 0
	for _, p := range r.path {
		if p.any {
			stars++
		}
	}
	return bit(24, r.rest) | uint32(min(stars, 255))<<16 | bit(15, r.anyQuery) | bit(14, r.anyBody) |
		bit(13, r.host == nil) | uint32(255-min(len(r.path), 255))
}

func bit(n int, set bool) uint32 {
	if set {
		return 1 << n
	}
	return 0
}

// parsePathRule reads a path rule. The message says what is wrong and what
// would be right.
func parsePathRule(s string) (parts []pathPart, rest bool, fault string) {
	if f := pathRuleFault(s); f != "" {
		return nil, false, f
	}
	segments := strings.Split(s[1:], "/")
	for i, seg := range segments {
		last := i == len(segments)-1
		switch {
		case seg == "**" && last:
			return parts, true, ""
		case seg == "**":
			return nil, false, "** can only stand last; use * for one segment"
		case seg == "*":
			parts = append(parts, pathPart{any: true})
			continue
		case seg == "" && !last:
			return nil, false, "has an empty segment, which no call can have; remove one slash"
		}
		t, f := parseSegmentRule(seg)
		if f != "" {
			return nil, false, f
		}
		parts = append(parts, pathPart{text: t})
	}
	return parts, false, ""
}

// pathRuleFault looks for what cannot be in any path.
func pathRuleFault(s string) string {
	switch {
	case s == "":
		return "is empty; want a path such as /v1/tickets/${ticket}"
	case s[0] != '/':
		return "does not begin with a slash and can match nothing; write /" + s
	case strings.ContainsRune(s, '?'):
		return "holds a query; list its parameters under query"
	case strings.ContainsRune(s, '#'):
		return "holds a fragment, which no call has; remove it"
	case strings.ContainsRune(s, '%'):
		return "holds a percent-encoding; write the character itself: calls are compared decoded"
	case len(s) > maxPattern:
		return fmt.Sprintf("is longer than %d bytes", maxPattern)
	case strings.Count(s, "/") > maxSegments:
		return fmt.Sprintf("has more than %d segments, which no call can have", maxSegments)
	case !utf8.ValidString(s):
		return "is not UTF-8 and can match nothing"
	}
	return ""
}

// parseSegmentRule reads a segment that is not a wildcard. A text of only dots
// beside a parameter is fine: the whole is checked once the value is known.
func parseSegmentRule(seg string) (template, string) {
	t, err := parseTemplate(seg)
	if err != nil {
		return nil, err.Error()
	}
	for _, p := range t {
		switch {
		case strings.ContainsRune(p.text, '*'):
			return nil, "* stands for a whole segment; use a parameter for a part of one"
		case segmentError(p.text) != nil && p.text != "." && p.text != "..":
			return nil, "holds a character that no call's path may have, such as ; or a backslash, and can match nothing"
		}
	}
	if len(t) == 1 && segmentError(t[0].text) != nil {
		return nil, "has a dot segment and can match nothing; write the path that it leads to"
	}
	return t, ""
}

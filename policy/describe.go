package policy

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Calls says what calls a grant opens, one line each: method, URL, then what
// query and body may be. In a path * is one segment and ** any rest; a star of a
// parameter's own is %2A, as it would be on the wire.
func (r *Resolved) Calls() []string {
	var out []string
	for i := range r.rules {
		b := &r.rules[i]
		hosts := []string{b.host}
		if b.host == "" {
			hosts = slices.Sorted(slices.Values(r.Destination.Hosts))
		}
		for _, host := range hosts {
			out = append(out, b.method+" "+r.Destination.origin(host)+b.wirePath()+b.extent())
		}
	}
	return out
}

// origin is scheme, host and, unless it is the scheme's own, port.
func (d *Destination) origin(host string) string {
	if d.Plain && d.Port != 80 || !d.Plain && d.Port != 443 {
		host += ":" + strconv.Itoa(int(d.Port)) // a DNS name, never an address
	}
	return d.Scheme() + "://" + host
}

// wirePath is the path as it would be on the wire, where no text looks like a
// wildcard or like another text.
func (b *bound) wirePath() string {
	var s strings.Builder
	for _, p := range b.path {
		s.WriteByte('/')
		if p.any {
			s.WriteByte('*')
		} else {
			s.WriteString(strings.ReplaceAll(url.PathEscape(p.text), "*", "%2A"))
		}
	}
	if b.rest {
		s.WriteString("/**")
	}
	return s.String()
}

// extent says what else than its path a call may have.
func (b *bound) extent() string {
	var parts []string
	for _, q := range b.query {
		parts = append(parts, "query "+q.name+"="+q.source)
	}
	if b.anyQuery {
		parts = append(parts, "any query")
	}
	if b.anyBody {
		parts = append(parts, "any body")
	}
	if len(parts) == 0 {
		return ""
	}
	return " with " + strings.Join(parts, ", ")
}

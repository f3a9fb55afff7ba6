package store

import (
	"maps"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/policy"
)

// catalog is the one in force.
type catalog struct {
	compiled *policy.Catalog // nil: it cannot be read, and so permits nothing
	rev      int64           // at which it was published
}

// compileSource turns a published catalog into a compiled one.
func compileSource(source []byte) (*policy.Catalog, error) {
	set, err := policy.DecodeSet(source)
	if err != nil {
		return nil, err
	}
	c, problems := policy.Compile(set)
	if len(problems) > 0 {
		p := problems[0]
		return nil, &CatalogError{Problems: problems, text: p.Kind + " " + p.Name + ": " + p.Field + ": " + p.Message}
	}
	return c, nil
}

// CatalogError: a catalog does not compile.
type CatalogError struct {
	Problems []policy.Problem
	text     string
}

func (e *CatalogError) Error() string { return "catalog does not compile: " + e.text }

// maxResolved bounds the resolver's memory.
const maxResolved = 8192

// resolver fills in grants' capabilities under one catalog. Grants that permit
// the same share one Resolved.
type resolver struct {
	catalog *policy.Catalog
	known   map[string]*policy.Resolved // nil values: not under this catalog
}

// resolve gives what the grant permits, or nil and why when the catalog no
// longer gives what was granted, or the agent is not who it was.
func (r *resolver) resolve(g policy.Grant) (*policy.Resolved, policy.EndReason) {
	agent, ok := r.catalog.Agent(g.Agent)
	switch {
	case r.catalog == nil: // nothing can be told apart without one
		return nil, policy.EndPolicyChanged
	case !ok, g.AgentDigest == "", agent.Digest() != g.AgentDigest:
		return nil, policy.EndContextChanged
	}
	key := resolveKey(g)
	res, ok := r.known[key]
	if !ok {
		if len(r.known) >= maxResolved || r.known == nil {
			r.known = make(map[string]*policy.Resolved)
		}
		var err error
		if res, err = r.catalog.Resolve(g.Agent, g.Capability, g.Params); err != nil {
			res = nil
		}
		r.known[key] = res
	}
	if res == nil || g.Digest == "" || res.Digest != g.Digest {
		return nil, policy.EndPolicyChanged
	}
	return res, ""
}

// resolveKey separates its parts by a byte that no parameter may hold.
func resolveKey(g policy.Grant) string {
	parts := make([]string, 0, 2+2*len(g.Params))
	parts = append(parts, g.Agent, g.Capability)
	for _, name := range slices.Sorted(maps.Keys(g.Params)) {
		parts = append(parts, name, g.Params[name])
	}
	return strings.Join(parts, "\x00")
}

package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

const maxValue = 512 // bytes of a parameter's value

// usage says where a parameter's value ends up, and so what it may not hold.
type usage uint8

const (
	inPath usage = 1 << iota
	inHost
	inQuery
	inScope
	inParam // in another parameter's pattern
)

// param is a compiled parameter.
type param struct {
	name    string
	pattern template
	fixed   matcher   // when the pattern names no other parameter
	loose   string    // source that covers its values, whatever the others are
	from    inference // of the parameters that its pattern names
	use     usage     // everywhere that it is inserted
}

// valueFault says why a value can be none of this parameter's, before its
// pattern is looked at; empty when it may. What it says never holds the value.
//
// An empty value, one that does not print and one with line breaks are
// refused everywhere: patterns are easily written without thinking of them.
func (u usage) valueFault(v string) string {
	switch {
	case v == "":
		return "is empty"
	case len(v) > maxValue:
		return "is too long"
	case !utf8.ValidString(v) || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }):
		return "holds a character that does not print"
	case u&inPath != 0 && strings.ContainsFunc(v, func(r rune) bool { return !segmentRune(r) }):
		return "holds a character that cannot be in a segment of a path, such as a slash"
	case u&inHost != 0 && strings.ContainsFunc(v, func(r rune) bool { return !hostRune(r) }):
		return "holds a character that cannot be in a host name"
	case u&inScope != 0 && strings.ContainsFunc(v, func(r rune) bool { return !scopeRune(r) }):
		return "holds a character that would end an entry of a scope, such as a space"
	}
	return ""
}

func hostRune(r rune) bool {
	return 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '-' || r == '.'
}

// scopeRune: scope-token of RFC 6749 section 3.3, without the comma that some
// servers separate scopes with. A value must not add a scope to its own.
func scopeRune(r rune) bool {
	return '!' <= r && r <= '~' && r != '"' && r != '\\' && r != ','
}

// check tests a value against the parameter; values holds the parameters that
// its pattern names.
func (p *param) check(values map[string]string, allowed []string) string {
	v := values[p.name]
	if f := p.use.valueFault(v); f != "" {
		return f
	}
	if allowed != nil && !slices.Contains(allowed, v) {
		return "is none of those that this agent may give"
	}
	m := p.fixed
	if len(p.pattern.params()) > 0 {
		var err error
		if m, err = compileSource(p.pattern.source(values)); err != nil {
			return "does not fit the parameter's pattern"
		}
	}
	if !m.match(v) {
		return "does not fit the parameter's pattern"
	}
	return ""
}

// Resolve fills in parameters for an agent. The error is a *RequestError.
func (c *Catalog) Resolve(agent, capability string, params map[string]string) (*Resolved, error) {
	a, _ := c.Agent(agent)
	if _, ok := c.Capability(capability); !ok {
		return nil, &RequestError{CodeUnknownCapability, "capability", "there is no capability of this name"}
	}
	e, ok := a.EligibleFor(capability)
	if !ok {
		return nil, &RequestError{CodeNotEligible, "capability", "this agent is not eligible for this capability"}
	}
	return e.resolve(params)
}

// resolve checks the values and inserts them. What the rules, the host and the
// scope become is what the grant means, and all of it is in the digest.
func (e Eligible) resolve(params map[string]string) (*Resolved, error) {
	if err := e.checkParams(params); err != nil {
		return nil, err
	}
	p := e.Capability
	r := &Resolved{Capability: p, Destination: p.Destination, Params: map[string]string{}, Provider: p.provider}
	maps.Copy(r.Params, params) // never nil: none and an empty map are one digest
	for _, rule := range p.rules {
		b, err := rule.bind(params, false)
		if err != nil {
			return nil, &RequestError{CodeParamNotAllowed, "params", "these parameters do not give a path and query that a call can have"}
		}
		if b.host != "" && !slices.Contains(p.Destination.Hosts, b.host) {
			return nil, &RequestError{CodeParamNotAllowed, "params", "these parameters do not give a host of the destination"}
		}
		r.rules = append(r.rules, b)
	}
	if len(p.scope) > 0 {
		r.Scope = make(map[string]string, len(p.scope))
	}
	for key, t := range p.scope {
		r.Scope[key] = t.fill(params)
	}
	var err error
	r.Digest, err = r.digest()
	return r, err
}

// checkParams: every parameter of the capability, none besides, each within
// its pattern and the agent's narrowing.
func (e Eligible) checkParams(params map[string]string) error {
	for name := range params { // the name is the caller's: it is not repeated
		if _, ok := e.Capability.Params[name]; !ok {
			return &RequestError{CodeUnknownParam, "params", "want only the parameters of this capability: " + e.paramNames()}
		}
	}
	for _, p := range e.Capability.params {
		if _, ok := params[p.name]; !ok {
			return &RequestError{CodeMissingParam, "params." + p.name, "want every parameter of this capability: " + e.paramNames()}
		}
	}
	// In this order a value is only inserted in a pattern once it was checked.
	for _, p := range e.Capability.params {
		if f := p.check(params, e.Narrowed[p.name]); f != "" {
			return &RequestError{CodeParamNotAllowed, "params." + p.name, "the value of " + p.name + " " + f + e.hint(p)}
		}
	}
	return nil
}

// hint says what this agent may give.
func (e Eligible) hint(p *param) string {
	if values, ok := e.Narrowed[p.name]; ok {
		return "; want one of " + quoted(values)
	}
	return "; want " + e.Capability.Params[p.name].Pattern
}

func (e Eligible) paramNames() string {
	if len(e.Capability.Params) == 0 {
		return "it has none"
	}
	return strings.Join(slices.Sorted(maps.Keys(e.Capability.Params)), ", ")
}

// digestForm is what a digest is over. Its JSON is canonical: fields in order,
// maps sorted, rules with their parameters inserted.
type digestForm struct {
	Form        string
	Capability  string
	Risk        v1alpha1.Risk
	Sensitivity v1alpha1.Sensitivity
	TTL, MaxTTL int64  // ns
	Limits      Limits `json:",omitzero"` // without any, the digest is that of a form that knew none
	Params      map[string]string
	Destination digestDestination
	Calls       []digestCall
	Provider    *v1alpha1.ProviderSpec
	Scope       map[string]string
	Approval    *ApprovalRule `json:",omitempty"` // without one, the digest is that of a form that knew none
}

// digestDestination holds all that says where the call and its credential go,
// and what may go with them.
type digestDestination struct {
	Name      string
	Hosts     []string
	Port      uint16
	Plain     bool
	Addresses []string
	CA        string
	Headers   []string
}

type digestCall struct {
	Method, Host      string
	Path              []string // "=" and a text, "*" any one, "**" any rest
	Query             [][2]string
	AnyQuery, AnyBody bool
}

// digest is SHA-256 over all that the grant permits, in hexadecimal.
func (r *Resolved) digest() (string, error) {
	p, d := r.Capability, r.Destination
	form := digestForm{
		Form: "exeat.dev/resolved/1", Capability: p.Name, Risk: p.Risk, Sensitivity: p.Sensitivity,
		TTL: int64(p.TTL), MaxTTL: int64(p.MaxTTL), Limits: p.Limits, Params: r.Params, Scope: r.Scope, Approval: p.Approval,
		Destination: digestDestination{d.Name, slices.Sorted(slices.Values(d.Hosts)), d.Port, d.Plain,
			slices.Sorted(slices.Values(d.Addresses)), d.CAPEM, slices.Sorted(slices.Values(d.Headers))},
	}
	if r.Provider != nil {
		form.Provider = &r.Provider.Spec
	}
	for i := range r.rules {
		form.Calls = append(form.Calls, r.rules[i].digestCall())
	}
	plain, err := json.Marshal(form)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(plain)
	return hex.EncodeToString(sum[:]), nil
}

// digestCall writes a rule so that a text is never taken for a wildcard.
func (b *bound) digestCall() digestCall {
	d := digestCall{Method: b.method, Host: b.host, AnyQuery: b.anyQuery, AnyBody: b.anyBody}
	for _, p := range b.path {
		if p.any {
			d.Path = append(d.Path, "*")
		} else {
			d.Path = append(d.Path, "="+p.text)
		}
	}
	if b.rest {
		d.Path = append(d.Path, "**")
	}
	for _, q := range b.query {
		d.Query = append(d.Query, [2]string{q.name, q.source})
	}
	return d
}

package grant

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// Capabilities is what one agent may ask for under one catalog.
type Capabilities struct {
	Agent   string
	Catalog string // revision
	List    []Capability
}

// Capability is one thing that an agent may ask for.
type Capability struct {
	Name, Description string
	Risk, Sensitivity string
	Destination       string
	TTL, MaxTTL       time.Duration
	Limits            policy.Limits
	// Schema is the JSON Schema (2020-12) of the parameters, narrowed to what
	// this agent may give. A pattern that names another parameter admits all of
	// that parameter's values, so the schema may admit a combination that a
	// request is refused for, never the other way round.
	Schema json.RawMessage
}

// Capabilities lists what the caller's agent may ask for; for an operator and
// for people, what the named agent may.
func (s *Service) Capabilities(c Caller, agent string) (Capabilities, error) {
	a, cat, err := s.agent(c, agent)
	if err != nil {
		return Capabilities{}, err
	}
	out := Capabilities{Agent: a.Name, Catalog: cat.Revision()}
	for _, e := range a.Eligible() {
		schema, err := schemaOf(e)
		if err != nil {
			return Capabilities{}, err
		}
		p := e.Capability
		out.List = append(out.List, Capability{
			Name: p.Name, Description: p.Description, Risk: string(p.Risk), Sensitivity: string(p.Sensitivity),
			Destination: p.Destination.Name, TTL: p.TTL, MaxTTL: p.MaxTTL, Limits: p.Limits, Schema: schema,
		})
	}
	return out, nil
}

// ClientEnv gives the placeholders that client libraries of the agent's
// destinations insist on. Where two destinations name the same variable, the
// first by name of capability holds.
func (s *Service) ClientEnv(c Caller, agent string) (map[string]string, error) {
	a, _, err := s.agent(c, agent)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, e := range a.Eligible() {
		for name, value := range e.Capability.Destination.ClientEnv {
			if _, taken := env[name]; !taken {
				env[name] = value
			}
		}
	}
	return env, nil
}

// agent finds the agent that a question is about, in the catalog in force.
func (s *Service) agent(c Caller, name string) (*policy.Agent, *policy.Catalog, error) {
	cat := s.index.Catalog()
	if cat == nil {
		return nil, nil, ErrNoCatalog
	}
	views := c.MayAny(policy.VerbView)
	switch {
	case views && name == "":
		return nil, nil, invalid("agent", "the name of an agent in the catalog")
	case views:
	case c.Agent == nil || name != "" && name != c.Agent.Name:
		return nil, nil, ErrNotFound
	default:
		name = c.Agent.Name
	}
	a, ok := cat.Agent(name)
	if views && (!ok || !c.May(policy.VerbView, a.OwnerGroups)) {
		return nil, nil, invalid("agent", "the name of an agent in the catalog")
	}
	if !ok {
		return nil, nil, ErrNotFound
	}
	return a, cat, nil
}

// schema is the part of JSON Schema that describes parameters.
type schema struct {
	Dialect              string            `json:"$schema,omitempty"`
	Type                 string            `json:"type"`
	Description          string            `json:"description,omitempty"`
	Properties           map[string]schema `json:"properties,omitempty"`
	Required             []string          `json:"required,omitempty"`
	AdditionalProperties *bool             `json:"additionalProperties,omitempty"`
	Pattern              string            `json:"pattern,omitempty"`
	Enum                 []string          `json:"enum,omitempty"`
	MinLength            int               `json:"minLength,omitempty"`
}

func schemaOf(e policy.Eligible) (json.RawMessage, error) {
	closed := false
	out := schema{
		Dialect: "https://json-schema.org/draft/2020-12/schema", Type: "object",
		Properties: map[string]schema{}, AdditionalProperties: &closed,
		Required: slices.Sorted(maps.Keys(e.Capability.Params)),
	}
	for name, p := range e.Capability.Params {
		property := schema{Type: "string", Description: p.Description, MinLength: 1}
		if values, ok := e.Narrowed[name]; ok {
			property.Enum = values
		} else if expr, ok := expand(e, name, 0); ok {
			property.Pattern = "^(?:" + expr + ")$"
		}
		out.Properties[name] = property
	}
	return json.Marshal(out)
}

// Bounds of an expanded pattern; past them the schema says less.
const (
	maxPattern = 4096 // bytes
	maxNesting = 16
)

var reference = regexp.MustCompile(`\$\{([A-Za-z][A-Za-z0-9_-]*)\}`)

// expand gives a parameter's pattern in which each other parameter is replaced
// by all that it may be for this agent.
func expand(e policy.Eligible, name string, depth int) (string, bool) {
	if values, ok := e.Narrowed[name]; ok {
		return alternatives(values), true
	}
	p, ok := e.Capability.Params[name]
	if !ok || depth > maxNesting {
		return "", false
	}
	var b strings.Builder
	last := 0
	for _, m := range reference.FindAllStringSubmatchIndex(p.Pattern, -1) {
		if escaped(p.Pattern[:m[0]]) {
			continue
		}
		inner, ok := expand(e, p.Pattern[m[2]:m[3]], depth+1)
		if !ok || b.Len()+len(inner) > maxPattern {
			return "", false
		}
		b.WriteString(p.Pattern[last:m[0]] + "(?:" + inner + ")")
		last = m[1]
	}
	b.WriteString(p.Pattern[last:])
	return b.String(), b.Len() <= maxPattern
}

func alternatives(values []string) string {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = regexp.QuoteMeta(v)
	}
	return strings.Join(quoted, "|")
}

// escaped reports whether a backslash takes away the meaning of what follows.
func escaped(before string) bool {
	return (len(before)-len(strings.TrimRight(before, `\`)))%2 == 1
}

package policy

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy/rego"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Catalog is a compiled catalog: immutable, parsed and cross-checked. A nil
// Catalog holds nothing.
type Catalog struct {
	revision     string
	agents       map[string]*Agent
	bySPIFFEID   map[string]*Agent
	bySidecar    map[string]*Agent // exact sidecar IDs
	byTemplate   map[string]*Agent // what precedes /{instance}
	destinations map[string]*Destination
	byHost       map[hostPort]*Destination
	providers    map[string]*v1alpha1.Provider
	capabilities map[string]*Capability
	access       []*access
	rego         *rego.Engine
}

type hostPort struct {
	host string
	port uint16
}

func newCatalog() *Catalog {
	return &Catalog{
		agents: map[string]*Agent{}, bySPIFFEID: map[string]*Agent{},
		bySidecar: map[string]*Agent{}, byTemplate: map[string]*Agent{},
		destinations: map[string]*Destination{}, byHost: map[hostPort]*Destination{},
		providers: map[string]*v1alpha1.Provider{}, capabilities: map[string]*Capability{},
	}
}

// Revision is "c_" and a hash of the set's content: the same set, the same revision.
func (c *Catalog) Revision() string {
	if c == nil {
		return ""
	}
	return c.revision
}

// Agent finds an agent by name.
func (c *Catalog) Agent(name string) (*Agent, bool) {
	if c == nil {
		return nil, false
	}
	a, ok := c.agents[name]
	return a, ok
}

// AgentBySidecar finds the agent whose sidecarID is, or whose template covers,
// id. A template covers exactly one more path segment.
func (c *Catalog) AgentBySidecar(id string) (*Agent, bool) {
	if c == nil {
		return nil, false
	}
	if a, ok := c.bySidecar[id]; ok {
		return a, true
	}
	i := strings.LastIndexByte(id, '/')
	if i < 0 || spiffeid.ValidatePathSegment(id[i+1:]) != nil {
		return nil, false
	}
	a, ok := c.byTemplate[id[:i]]
	return a, ok
}

// AgentBySPIFFEID finds the agent whose own identity id is.
func (c *Catalog) AgentBySPIFFEID(id string) (*Agent, bool) {
	if c == nil {
		return nil, false
	}
	a, ok := c.bySPIFFEID[id]
	return a, ok
}

// Agents lists all agents in order of their names.
func (c *Catalog) Agents() []*Agent {
	if c == nil {
		return nil
	}
	return sortedValues(c.agents)
}

// Destination finds a destination by name.
func (c *Catalog) Destination(name string) (*Destination, bool) {
	if c == nil {
		return nil, false
	}
	d, ok := c.destinations[name]
	return d, ok
}

// DestinationByHost finds the destination that a lower-case host and a port
// belong to.
func (c *Catalog) DestinationByHost(host string, port uint16) (*Destination, bool) {
	if c == nil {
		return nil, false
	}
	d, ok := c.byHost[hostPort{host, port}]
	return d, ok
}

// Destinations lists all destinations in order of their names.
func (c *Catalog) Destinations() []*Destination {
	if c == nil {
		return nil
	}
	return sortedValues(c.destinations)
}

// Capability finds a capability by name.
func (c *Catalog) Capability(name string) (*Capability, bool) {
	if c == nil {
		return nil, false
	}
	p, ok := c.capabilities[name]
	return p, ok
}

// Capabilities lists all capabilities in order of their names.
func (c *Catalog) Capabilities() []*Capability {
	if c == nil {
		return nil
	}
	return sortedValues(c.capabilities)
}

// Provider finds a provider by name.
func (c *Catalog) Provider(name string) (*v1alpha1.Provider, bool) {
	if c == nil {
		return nil, false
	}
	p, ok := c.providers[name]
	return p, ok
}

// Providers lists all providers in order of their names.
func (c *Catalog) Providers() []*v1alpha1.Provider {
	if c == nil {
		return nil
	}
	return sortedValues(c.providers)
}

func sortedValues[T any](m map[string]T) []T {
	out := make([]T, 0, len(m))
	for _, name := range slices.Sorted(maps.Keys(m)) {
		out = append(out, m[name])
	}
	return out
}

// Agent is a compiled agent.
type Agent struct {
	Name, SPIFFEID, SidecarID string
	OwnerGroups               []string
	Contact, Environment      string
	eligible                  []Eligible // in order of the capabilities' names
	onCall                    []*Destination
}

// Eligible is a capability that an agent may ask for.
type Eligible struct {
	Capability *Capability
	// Narrowed lists, for some parameters, the only values that this agent may
	// give. A parameter that is not in it is free within its pattern.
	Narrowed map[string][]string
}

// Eligible lists what the agent may ask for, in order of the names.
func (a *Agent) Eligible() []Eligible {
	if a == nil {
		return nil
	}
	return slices.Clone(a.eligible)
}

// EligibleFor finds what the agent may ask for by the capability's name.
func (a *Agent) EligibleFor(capability string) (Eligible, bool) {
	if a == nil {
		return Eligible{}, false
	}
	i := slices.IndexFunc(a.eligible, func(e Eligible) bool { return e.Capability.Name == capability })
	if i < 0 {
		return Eligible{}, false
	}
	return a.eligible[i], true
}

// Destination is a compiled destination.
type Destination struct {
	Name      string
	Hosts     []string // lower case
	Port      uint16
	Plain     bool     // port 80 without tls: plain HTTP towards the upstream
	Addresses []string // host:port to dial instead of DNS; IPs
	CAPEM     string   // empty: system roots
	Headers   []string // lower case; trailing * is a prefix
	ClientEnv map[string]string
}

// Scheme that calls to the destination have.
func (d *Destination) Scheme() string {
	if d.Plain {
		return "http"
	}
	return "https"
}

// serves reports whether a call goes to this destination.
func (d *Destination) serves(c *Call) bool {
	return d != nil && d.Port == c.Port && d.Scheme() == c.Scheme && slices.Contains(d.Hosts, c.Host)
}

// Capability is a compiled capability.
type Capability struct {
	Name, Description string
	Risk              v1alpha1.Risk
	Sensitivity       v1alpha1.Sensitivity
	Params            map[string]v1alpha1.Param
	Destination       *Destination
	TTL, MaxTTL       time.Duration
	Approval          *ApprovalRule // nil: nobody is asked
	OnCall            bool          // a call may ask for it by being made
	Limits            Limits

	provider *v1alpha1.Provider // nil: no credential is put on the call
	scope    map[string]template
	params   []*param // each after those that its pattern names
	rules    []*rule
}

// Lifetime gives how long a grant lasts that asks for some time; zero asks for
// the capability's TTL. The error is a *RequestError.
func (c *Capability) Lifetime(asked time.Duration) (time.Duration, error) {
	switch {
	case asked == 0:
		return c.TTL, nil
	case asked < 0:
		return 0, &RequestError{Code: CodeParamNotAllowed, Field: "ttl", Message: "ttl must be positive"}
	case asked > c.MaxTTL:
		return 0, &RequestError{Code: CodeTTLTooLong, Field: "ttl", Message: "ttl may be at most " + c.MaxTTL.String()}
	}
	return asked, nil
}

// Resolved is a capability with parameters filled in: what a grant permits.
type Resolved struct {
	Capability  *Capability
	Destination *Destination
	Params      map[string]string
	// Provider and Scope of the credential; Provider nil when none is put on the call.
	Provider *v1alpha1.Provider
	Scope    map[string]string
	// Digest over the resolved capability (calls, hosts, scope), hex SHA-256.
	Digest string
	rules  []bound
}

// The codes of a RequestError.
const (
	CodeUnknownCapability = "unknown_capability"
	CodeNotEligible       = "not_eligible"
	CodeMissingParam      = "missing_param"
	CodeUnknownParam      = "unknown_param"
	CodeParamNotAllowed   = "param_not_allowed"
	CodeTTLTooLong        = "ttl_too_long"
	CodePolicyDenied      = "policy_denied"
	CodeTooManyUses       = "too_many_uses"
)

// RequestError says what is wrong with a request for a grant. It never holds a value.
type RequestError struct {
	// Code is one of the codes above.
	Code    string
	Field   string // such as params.ticket
	Message string // what would be right
}

func (e *RequestError) Error() string { return e.Message }

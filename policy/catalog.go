package policy

import (
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// Catalog is a compiled catalog: immutable, parsed and cross-checked.
type Catalog struct {
	revision string
	// ...
}

// Problem is one thing wrong with a catalog.
type Problem struct {
	Kind, Name string // which object
	Field      string // path, such as spec.calls[0].path
	Message    string // what is wrong and what would be right
}

// Compile checks and compiles a set. On any problem the catalog is nil and
// all problems are listed.
func Compile(set *v1alpha1.Set) (*Catalog, []Problem) { panic("contract") }

// Revision is "c_" and a hash of the set's content: the same set, the same revision.
func (c *Catalog) Revision() string { panic("contract") }

// Agent, AgentBySidecar, AgentBySPIFFEID, Destination, ... look up by name.
func (c *Catalog) Agent(name string) (*Agent, bool) { panic("contract") }

// AgentBySidecar finds the agent whose sidecarID is, or whose template covers, id.
func (c *Catalog) AgentBySidecar(id string) (*Agent, bool)                         { panic("contract") }
func (c *Catalog) AgentBySPIFFEID(id string) (*Agent, bool)                        { panic("contract") }
func (c *Catalog) Agents() []*Agent                                                { panic("contract") }
func (c *Catalog) Destination(name string) (*Destination, bool)                    { panic("contract") }
func (c *Catalog) DestinationByHost(host string, port uint16) (*Destination, bool) { panic("contract") }
func (c *Catalog) Destinations() []*Destination                                    { panic("contract") }
func (c *Catalog) Capability(name string) (*Capability, bool)                      { panic("contract") }
func (c *Catalog) Provider(name string) (*v1alpha1.Provider, bool)                 { panic("contract") }

// Agent is a compiled agent.
type Agent struct {
	Name, SPIFFEID, SidecarID string
	OwnerGroups               []string
	Contact, Environment      string
	TaskRequired              bool
	// unexported: eligibility with narrowed params
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

// Capability is a compiled capability.
type Capability struct {
	Name, Description string
	Risk              v1alpha1.Risk
	Sensitivity       v1alpha1.Sensitivity
	Params            map[string]v1alpha1.Param
	Destination       *Destination
	TTL, MaxTTL       time.Duration
	// unexported: compiled rules
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
	// unexported: the rules with parameters inserted
}

// Resolve fills in parameters for an agent. The error is a *RequestError.
func (c *Catalog) Resolve(agent, capability string, params map[string]string) (*Resolved, error) {
	panic("contract")
}

// RequestError says what is wrong with a request for a grant. It never holds a value.
type RequestError struct {
	Code    string // unknown_capability | not_eligible | missing_param | unknown_param | param_not_allowed | ttl_too_long
	Field   string // such as params.ticket
	Message string // what would be right
}

func (e *RequestError) Error() string { return e.Message }

// ParseCall brings a raw request into canonical form, or says why it can't be.
func ParseCall(r RawCall) (Call, error) { panic("contract") }

// Decide answers one call of an agent within a task at now. It is pure, takes
// no lock and allocates only on denial. nil view: unknown_task.
func Decide(cat *Catalog, agent *Agent, view *TaskView, call *Call, now time.Time) Decision {
	panic("contract")
}

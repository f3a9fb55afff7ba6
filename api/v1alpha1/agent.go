package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Agent is a workload that acts for an owner.
type Agent struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AgentSpec `json:"spec"`
}

// AgentSpec says who the agent is, who answers for it and what it may ask for.
type AgentSpec struct {
	// SPIFFEID is the agent's own identity, never its sidecar's.
	SPIFFEID string `json:"spiffeID"`
	// SidecarID is the identity of the sidecar paired with the agent. It may
	// end in /{instance}: then each running sidecar has one of its own.
	SidecarID    string            `json:"sidecarID"`
	Owner        Owner             `json:"owner"`
	Environment  string            `json:"environment,omitempty"`
	TaskBinding  TaskBinding       `json:"taskBinding,omitempty"`
	Capabilities []AgentCapability `json:"capabilities,omitempty"`
	// OnDenials suspends the agent when too many of its calls are denied.
	OnDenials *OnDenials `json:"onDenials,omitempty"`
}

// OnDenials says what happens once Count calls were denied within Per for
// reasons that the agent itself causes.
type OnDenials struct {
	Count int             `json:"count"`
	Per   metav1.Duration `json:"per"`
	// Then is ThenSuspend.
	Then string `json:"then"`
}

// ThenSuspend suspends the agent until a person resumes it.
const ThenSuspend = "suspend"

// Owner is the people accountable for an agent; every agent has them.
type Owner struct {
	Groups  []string `json:"groups"`
	Contact string   `json:"contact"`
}

// TaskBinding says whether a call must name its task.
type TaskBinding string

// The task bindings; an absent one is TaskRequired.
const (
	TaskRequired TaskBinding = "required"
	TaskOptional TaskBinding = "optional"
)

// AgentCapability makes an agent eligible to ask for a capability. Params may
// only narrow the capability's own patterns.
type AgentCapability struct {
	Name   string              `json:"name"`
	Params map[string][]string `json:"params,omitempty"`
}

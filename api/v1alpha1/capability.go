package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Capability is a named intent with typed parameters.
type Capability struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              CapabilitySpec `json:"spec"`
}

// CapabilitySpec says which calls a grant permits and what its credential may do.
type CapabilitySpec struct {
	Description string           `json:"description,omitempty"`
	Risk        Risk             `json:"risk,omitempty"`
	Sensitivity Sensitivity      `json:"sensitivity,omitempty"`
	Params      map[string]Param `json:"params,omitempty"`
	Destination string           `json:"destination"`
	Calls       []CallRule       `json:"calls"`
	Credential  *CredentialRef   `json:"credential,omitempty"`
	Limits      Limits           `json:"limits,omitempty"`
	// OnCall: the first call of an eligible agent that it would cover asks for
	// it. For low risk without approval only.
	OnCall   bool      `json:"onCall,omitempty"`
	Approval *Approval `json:"approval,omitempty"`
}

// Approval says what people must approve each grant of a capability.
type Approval struct {
	// Count of distinct people; 1 when absent.
	Count int32 `json:"count,omitempty"`
	// Groups that approvers are of: at least one of them.
	Groups []string `json:"groups"`
	// ExpiresAfter is how long a request waits; 30m when absent.
	ExpiresAfter *metav1.Duration `json:"expiresAfter,omitempty"`
	// StepUp: approvers must have authenticated anew (RFC 9470).
	StepUp *StepUp `json:"stepUp,omitempty"`
}

// StepUp says how recently an approver must have authenticated, and how.
type StepUp struct {
	MaxAge *metav1.Duration `json:"maxAge"`
	// ACR is the authentication context class reference that is wanted; any
	// when absent.
	ACR string `json:"acr,omitempty"`
}

// Risk of a capability; an absent one is RiskLow.
type Risk string

// The risks.
const (
	RiskLow    Risk = "low"
	RiskMedium Risk = "medium"
	RiskHigh   Risk = "high"
)

// Sensitivity of the data that a capability reaches; absent is internal.
type Sensitivity string

// The sensitivities, ascending.
const (
	SensitivityPublic       Sensitivity = "public"
	SensitivityInternal     Sensitivity = "internal"
	SensitivityConfidential Sensitivity = "confidential"
	SensitivityRestricted   Sensitivity = "restricted"
)

// Param is a typed parameter: an RE2 pattern anchored at both ends, in which
// ${other} stands for another parameter's value, quoted.
type Param struct {
	Pattern     string `json:"pattern"`
	Description string `json:"description,omitempty"`
}

// CallRule permits calls. What it does not mention is denied: other query
// parameters, any body.
type CallRule struct {
	// Method is one HTTP method, in capitals.
	Method string `json:"method"`
	// Host narrows under the destination's hosts; all of them when absent.
	Host string `json:"host,omitempty"`
	// Path: ${name} a parameter, * one segment, ** (last) any rest.
	Path  string     `json:"path"`
	Query *QueryRule `json:"query,omitempty"`
	Body  *BodyRule  `json:"body,omitempty"`
}

// CredentialRef says what is minted for a grant of this capability.
type CredentialRef struct {
	Provider string            `json:"provider"`
	Scope    map[string]string `json:"scope,omitempty"`
}

// Limits of one grant.
type Limits struct {
	// TTL of a grant that asks for none; 5m when absent.
	TTL *metav1.Duration `json:"ttl,omitempty"`
	// MaxTTL that may be asked for; TTL when absent.
	MaxTTL *metav1.Duration `json:"maxTTL,omitempty"`
	// MaxUses is how many calls a grant authorises at most; any number when absent.
	MaxUses *int64 `json:"maxUses,omitempty"`
	// Rate of a grant's calls; any when absent.
	Rate *Rate `json:"rate,omitempty"`
	// Bytes of a grant's requests and responses together, counted as each call
	// ends; any number when absent.
	Bytes *int64 `json:"bytes,omitempty"`
}

// Rate bounds calls per time: at most so many at once, and over time so many
// per Per.
type Rate struct {
	Calls int64           `json:"calls"`
	Per   metav1.Duration `json:"per"`
}

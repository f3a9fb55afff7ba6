package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Access says what people may do: whom to believe about who they are, and what
// their groups may do. Nothing listed, nobody.
type Access struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              AccessSpec `json:"spec"`
}

// AccessSpec is one issuer and the rules for those that it vouches for.
type AccessSpec struct {
	Issuer OIDCIssuer   `json:"issuer"`
	Rules  []AccessRule `json:"rules"`
}

// OIDCIssuer is an OpenID Connect provider whose ID tokens are taken.
type OIDCIssuer struct {
	// URL is the issuer identifier (OpenID Connect Discovery 1.0 section 4):
	// https, or http on loopback.
	URL string `json:"url"`
	// ClientID that tokens must be issued to: their audience.
	ClientID string `json:"clientID"`
	// GroupsClaim is the claim that lists a person's groups; groups when absent.
	GroupsClaim string `json:"groupsClaim,omitempty"`
	// Scopes that `exeat login` asks for; openid when absent.
	Scopes []string `json:"scopes,omitempty"`
}

// AccessRule lets members of any of the groups do what the verbs say, to agents
// that any of the owners owns; to all agents when no owner is named.
type AccessRule struct {
	Groups []string `json:"groups"`
	Verbs  []Verb   `json:"verbs"`
	Owners []string `json:"owners,omitempty"`
}

// Verb names something that people may do.
type Verb string

// The verbs.
const (
	VerbView    Verb = "view"
	VerbApprove Verb = "approve"
	VerbRevoke  Verb = "revoke"
	VerbSuspend Verb = "suspend"
	VerbResume  Verb = "resume"
	VerbAudit   Verb = "audit"
)

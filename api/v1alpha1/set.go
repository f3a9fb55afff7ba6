package v1alpha1

// Set is a whole catalog as its authors wrote it.
type Set struct {
	Agents       []Agent       `json:"agents,omitempty"`
	Destinations []Destination `json:"destinations,omitempty"`
	Providers    []Provider    `json:"providers,omitempty"`
	Capabilities []Capability  `json:"capabilities,omitempty"`
	Access       []Access      `json:"access,omitempty"`
	// Policies are the Rego modules in force; tests are not among them.
	Policies []PolicyModule `json:"policies,omitempty"`
	// CAs holds the PEM text of each certificate file that a destination
	// names, keyed by the name as written. Certificates only; never a secret.
	CAs map[string]string `json:"cas,omitempty"`
}

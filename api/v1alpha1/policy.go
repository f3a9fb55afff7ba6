package v1alpha1

// PolicyModule is one file of Rego v1.
type PolicyModule struct {
	// Path names the module: slashes, within the catalog or the bundle.
	Path   string `json:"path"`
	Source string `json:"source"`
}

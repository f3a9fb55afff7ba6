// Package v1alpha1 holds the catalog kinds of group exeat.dev: Agent,
// Destination, Provider, Capability and Access. They are types only; the same ones
// serve files and Kubernetes custom resources. Reading is package catalog's
// work, meaning is package policy's.
package v1alpha1

// Group and Version name the API as in apiVersion: exeat.dev/v1alpha1.
const (
	Group      = "exeat.dev"
	Version    = "v1alpha1"
	APIVersion = Group + "/" + Version
)

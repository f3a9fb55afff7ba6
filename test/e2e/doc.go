// Package e2e holds the tests of the whole system: real exeatd, exeat-sidecar,
// Envoy and exeat processes, and HTTP clients that nobody here wrote. What each
// test starts ends with it.
package e2e

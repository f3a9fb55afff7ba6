// Package policy is the pure core: the compiled catalog, a call, a grant,
// whether the one covers the other, and how tasks and grants change state.
//
// It does no I/O and reads no clock: time comes in as a value. The zero value
// of every type here that answers yes or no answers no.
package policy

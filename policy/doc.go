// Package policy is the pure core: the compiled catalog, a call, a grant,
// whether the one covers the other, and how tasks and grants change state.
//
// The way of a decision: DecodeSet and Compile make a Catalog, once per
// revision; Resolve fills a capability's parameters in, once per grant;
// ParseCall brings a request into the one form that rules are compared with;
// Decide compares. What is parsed is parsed once, into values that cannot be
// wrong, so that Decide only compares texts and allocates nothing.
//
// It does no I/O and reads no clock: time comes in as a value. The zero value
// of every type here that answers yes or no answers no.
package policy

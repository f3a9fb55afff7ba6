// Package sidecar is what runs beside Envoy: it enrols itself, writes Envoy's
// bootstrap, gives it (and only it) the workload's identity, keeps the bundle of
// certificates that the agent trusts, and supervises the process.
//
// The bootstrap holds no secret and nothing that depends on a task: everything
// else comes from the control plane by delta ADS, over mutual TLS.
//
// Not here: isolation of the agent from the sidecar. On one user's account the
// agent can do to Envoy whatever that user can.
package sidecar

// Package xds configures the sidecars' Envoys: what each may reach right now is
// computed from the store, and sent over delta ADS in an order that cuts first.
//
// A [Sidecar] is the Envoy-free model of one instance, a pure function of the
// store. One file per Envoy resource turns it into protobufs; equal models give
// equal bytes, and a resource's version is a hash of its bytes, so that neither
// a restart of this process nor another replica changes anything in an Envoy.
//
// # Why the streams are served here and not by go-control-plane's caches
//
// Its protobufs and names are used; its linear caches and server were weighed
// against what Envoy's behaviour asks for, and three things cannot be had
// from them. (1) A cache answers a type only once the answer before it was
// acknowledged, so a cut waits behind an unrelated update, and "egress, then
// listener" turns into "listener, then egress" whenever a route table is still
// in flight. (2) A response holds whatever changed; Envoy's refusal of it names
// no resource in a form that a program should trust. Here a response holds one
// resource, so a refusal has exactly one subject. (3) The caches decide what to
// send from the names alone, but a cutting update must hold only what is in
// force, which is known from the acknowledgements of other types. One goroutine
// per stream owns all of that state, and needs no lock.
package xds

// Package store keeps what Exeat's processes agree on, in etcd, embedded or a
// cluster: records, transactions, a watch, freshness, acknowledgements and
// elections. It is the only place where roles meet.
//
// Everything that authorisation depends on lies under one prefix, which each
// process follows with one watch into an [Index] whose reads take no lock. A
// process knows how old its index is by the beats that it writes under the
// same prefix: it is as fresh as the moment it sent the latest beat that came
// back to it. Whatever cannot be read, followed or kept fresh reads as denied.
//
// Every transition is a compare-and-swap. Ending is one write, whatever it
// ends: of the task for all its grants, of a floor for a whole scope.
//
// It does no approval of its own: what a record may say is package policy's.
package store

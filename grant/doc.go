// Package grant is the lifecycle of tasks and grants: it starts tasks, decides
// on requests by the catalog in force, says when a grant is ready and when an
// ending is enforced, and sweeps up what ended by itself.
//
// It keeps no state of its own. What it writes goes through package store in
// transactions; what it waits for, it reads from the store's index and from
// acknowledgements, so that any number of services may work at once.
//
// Two moments matter and are never confused. A grant is ready when the very
// next call succeeds: its credential is stored, every live authz replica has
// it, and its sidecar is configured. An ending is accepted when it is durable,
// and enforced when no replica allows a call any more, no older check still
// runs, and the sidecar has closed the streams.
//
// Not supported here: delegation.
package grant

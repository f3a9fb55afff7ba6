// Package credential mints what a call needs towards its destination, for one
// grant alone, and takes it back when the grant ends.
//
// Everything here runs in role authz, the only one with the sealing key. The
// store is the meeting point of its replicas: an active grant without a
// credential is a job; a replica claims it by compare-and-swap on the grant's
// ledger entry, mints, and writes the credential sealed, so that every replica
// uses the same one and no other role can read it. A ledger entry is written
// before anything is minted and removed once the outcome of its revocation is
// recorded, so that kill -9 forgets no credential.
//
// Two kinds of provider are here: jwt mints RFC 9068 access tokens signed by
// Exeat's own issuer; static puts a standing secret on the call, which is
// injected, not minted: it outlives its grant and cannot be revoked.
package credential

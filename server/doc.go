// Package server is the HTTP API of Exeat: tasks, grants, what an agent may
// ask for, and the keys of the token issuer. It turns HTTP into calls on
// package grant and answers back; it decides nothing itself.
//
// Two handlers serve the same routes. Handler is for TLS: its caller is the
// sidecar whose SVID was verified, and through it the sidecar's agent.
// LocalHandler is for a Unix socket: its caller is the person who runs this
// process, who sees everything and may revoke it, but holds no task of their
// own. The OpenAPI 3.1 document at /openapi.json is made from the very types
// that serve.
//
// Errors are problem details (RFC 9457) with a code; none of them holds a
// value that a caller sent.
package server

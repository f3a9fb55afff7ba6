// Package oidc tells who a person is by an ID token (OpenID Connect Core 1.0
// section 2) that they send as a bearer token (RFC 6750 section 2.1).
//
// Only issuers and clients that the caller names are believed. Discovery and
// keys are fetched when they are first needed and kept for a while; however
// many tokens come, an issuer is asked at most every few seconds. Only
// asymmetric signatures are taken: never none, never HMAC.
//
// Not supported: encrypted tokens, distributed claims, signed metadata.
package oidc

// Package service is an upstream as an agent's calls find one: a ticket service
// over TLS that knows nothing of Exeat but the issuer's address. It verifies
// each token itself (RFC 9068, by OpenID Connect Discovery and JWKS), trusts no
// other header, and keeps an access log of what it saw.
//
// Tickets are made up as they are asked for; comments live until it stops.
package service

// Package proxy turns Envoy's words into ours and back: it answers ext_authz
// checks, and takes what the access log says of how each call ended.
//
// Who calls is read from the peer's certificate; for which task and on which
// destination's chain, from the context extensions that a room's own
// configuration puts on every Check. Nothing that a call says of itself counts
// for either. Everything that fails, denies.
//
// What a room's configuration must do for this package to be right, all of it
// seen by running Envoy 1.40:
//
//   - encode_raw_headers, include_tls_session, clear_route_cache and
//     validate_mutations are set on the filter.
//   - with_request_body is {max_request_bytes: 1, allow_partial_message: true,
//     pack_as_bytes: true}. Without it a body is invisible: Envoy shows no
//     Transfer-Encoding to the filter, and HTTP/2 needs no Content-Length, so a
//     rule that allows no body would let one through. With it the Check waits
//     for a body's first byte and shows it; a request without a body does not
//     wait.
//   - The route, and not the filter, removes x-forwarded-proto, x-request-id
//     and grpc-timeout: Envoy still needs the first and the last, and the
//     access log names the call by the second.
//   - Names that are in headers_to_remove are removed after the credential was
//     set, so an answer never lists a name that it sets.
package proxy

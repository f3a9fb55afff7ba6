// Package identity says who is who: SPIFFE IDs, mutual TLS with X.509-SVIDs,
// and the embedded authority of one trust domain.
//
// The authority signs short-lived X.509-SVIDs (SPIFFE X509-SVID) and hands
// them out on a Unix socket by the Workload API (SPIFFE Workload API) and by
// Envoy's SDS with SPIRE's resource names. A caller is the process that the
// kernel names, found again by its start time, never what it says about itself.
//
// Not supported: JWT-SVIDs, federation, root rotation by itself (the bundle may
// hold several roots, so that a next one can be trusted ahead of its use), and
// telling processes apart on anything but Linux.
package identity

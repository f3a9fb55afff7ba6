package oidc

// Catalog gives a file for the tickets example: an agent, closer, that may
// escalate a ticket once two of its leads approve, who sign in at the issuer.
func Catalog(issuer string) map[string]string {
	return map[string]string{"people.yaml": `
apiVersion: exeat.dev/v1alpha1
kind: Agent
metadata: {name: closer}
spec:
  spiffeID: spiffe://example.org/agent/closer
  sidecarID: spiffe://example.org/sidecar/closer/{instance}
  owner: {groups: [support-platform], contact: support-platform@example.org}
  capabilities: [{name: escalate-ticket}, {name: read-ticket}]
---
apiVersion: exeat.dev/v1alpha1
kind: Capability
metadata: {name: escalate-ticket}
spec:
  description: Tell everybody about one ticket.
  risk: high
  params: {ticket: {pattern: "[A-Z]{2,5}-[0-9]+"}}
  destination: tickets
  calls: [{method: POST, path: "/v1/tickets/${ticket}/comments", body: any}]
  credential: {provider: tickets-jwt, scope: {scope: "ticket:write", ticket: "${ticket}"}}
  limits: {ttl: 2m}
  approval: {count: 2, groups: [support-leads], expiresAfter: 30m, stepUp: {maxAge: 5m, acr: mfa}}
---
apiVersion: exeat.dev/v1alpha1
kind: Access
metadata: {name: support}
spec:
  issuer: {url: "` + issuer + `", clientID: exeat}
  rules:
  - {groups: [support-leads], verbs: [view, approve, revoke], owners: [support-platform]}
  - {groups: [sre], verbs: [view, revoke, suspend, resume, audit]}
`}
}

package proxy

import (
	"context"
	"net/http"

	datav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"

	"github.com/exeat-dev/exeat/audit"
	"github.com/exeat-dev/exeat/policy"
)

// turnedAway records what the egress listener refused: a call that named no
// task, or none of this sidecar's. It came to no room, and so to no Check. A
// client that waits to be asked for its credential leaves such a record too.
func (s *Server) turnedAway(ctx context.Context, instance policy.Instance, log *datav3.HTTPAccessLogEntry) {
	if log.GetResponse().GetResponseCode().GetValue() != http.StatusProxyAuthRequired ||
		log.GetCommonProperties().GetDownstreamLocalAddress().GetSocketAddress() == nil {
		return
	}
	agent, ok := s.index.Catalog().AgentBySidecar(string(instance))
	if !ok {
		return
	}
	r := log.GetRequest()
	e := entry{
		HTTPAccessLogEntry: log,
		subject:            audit.Subject{Agent: agent.Name, Owner: agent.OwnerGroups, Instance: instance},
		call:               rawCall(r.GetRequestMethod().String(), r.GetScheme(), r.GetAuthority(), r.GetPath()),
	}
	s.name(&e)
	s.late(ctx, &e, audit.NewDecisionID(s.now()), policy.UnknownTask)
	s.metrics.turnedAway(e.subject.Destination)
}

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/server"
)

// instanceTemplate is how a sidecarID says that each running sidecar has an
// identity of its own.
const instanceTemplate = "{instance}"

// enroller makes local processes sidecars; the kernel has said which process asks.
type enroller struct{ plane *plane }

// Enroll implements server.Enroller.
func (e enroller) Enroll(_ context.Context, agent string, pid int) (server.Enrollment, error) {
	p := e.plane
	c := p.store.Index().Catalog()
	if c == nil {
		return server.Enrollment{}, fmt.Errorf("no catalog is in force yet")
	}
	a, ok := c.Agent(agent)
	if !ok {
		return server.Enrollment{}, fmt.Errorf("the catalog has no such agent")
	}
	id, err := identity.ParseID(strings.Replace(a.SidecarID, instanceTemplate, newInstance(), 1))
	if err != nil {
		return server.Enrollment{}, err
	}
	if _, err := p.authority.Register(identity.Entry{ID: id, PID: pid}); err != nil {
		return server.Enrollment{}, err
	}
	return server.Enrollment{
		Instance: id.String(), GRPC: p.endpoints.GRPC, API: p.endpoints.API,
		TrustDomain: p.trustDomain, WorkloadSocket: p.endpoints.WorkloadSocket,
	}, nil
}

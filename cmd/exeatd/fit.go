package main

import (
	"context"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// fitness tells sidecars (grpc.health.v1) whether this process can say
// anything but no. Those that know of another ask that one meanwhile.
type fitness struct {
	healthpb.UnimplementedHealthServer
	fit func() bool
}

// Check answers for all services of the process alike.
func (f fitness) Check(context.Context, *healthpb.HealthCheckRequest) (*healthpb.HealthCheckResponse, error) {
	status := healthpb.HealthCheckResponse_NOT_SERVING
	if f.fit() {
		status = healthpb.HealthCheckResponse_SERVING
	}
	return &healthpb.HealthCheckResponse{Status: status}, nil
}

// fit: the state is fresh, a catalog is in force, and decisions can be recorded.
func (p *plane) fit() bool {
	return p.store.Index().IsFresh() && p.store.Index().Catalog() != nil && p.audit.Available()
}

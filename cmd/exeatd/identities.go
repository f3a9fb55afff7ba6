package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/exeat-dev/exeat/identity"
)

// identities gives this process's servers their SVIDs.
type identities interface {
	// source is of one server, by its SPIFFE ID. It returns once there is an
	// SVID to serve with, or when ctx ends.
	source(ctx context.Context, id identity.ID) (identity.X509Source, func(), error)
}

// embeddedIdentities are issued by this process's own authority, for loopback.
type embeddedIdentities struct{ *identity.Authority }

func (e embeddedIdentities) source(_ context.Context, id identity.ID) (identity.X509Source, func(), error) {
	// Further names, so that plain HTTPS clients can verify it as well.
	ips := []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	return e.Source(id, []string{"localhost"}, ips), func() {}, nil
}

// workloadIdentities are what a Workload API has registered this process for.
type workloadIdentities struct {
	socket string
	log    *slog.Logger
}

func (w workloadIdentities) source(ctx context.Context, id identity.ID) (identity.X509Source, func(), error) {
	w.log.Info("asking the Workload API for an SVID", "spiffe_id", id.String())
	src, err := identity.OpenWorkload(ctx, w.socket, id, w.log)
	if err != nil {
		return nil, nil, fmt.Errorf("an SVID for %s: %w; register this process for it", id, err)
	}
	return src, src.Close, nil
}

package identity

import (
	"errors"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ID is a SPIFFE ID: parsed once, comparable, and never wrong after that.
type ID = spiffeid.ID

// ParseID reads a SPIFFE ID that names a workload, so one with a path
// (SPIFFE-ID, section 2).
func ParseID(s string) (ID, error) {
	id, err := spiffeid.FromString(s)
	if err != nil {
		return ID{}, err
	}
	if id.Path() == "" {
		return ID{}, errors.New("identity: a workload's SPIFFE ID needs a path")
	}
	return id, nil
}

// The two servers that exeatd runs are different identities, so that what one
// accepts can never be said to the other.
const (
	pathAPI  = "/exeat/api"
	pathGRPC = "/exeat/grpc"
)

// APIServer is the ID of the HTTP API in a trust domain.
func APIServer(trustDomain string) (ID, error) { return serverID(trustDomain, pathAPI) }

// GRPCServer is the ID of the server of xDS, SDS, ext_authz and access logs.
func GRPCServer(trustDomain string) (ID, error) { return serverID(trustDomain, pathGRPC) }

func serverID(trustDomain, path string) (ID, error) {
	td, err := spiffeid.TrustDomainFromString(trustDomain)
	if err != nil {
		return ID{}, err
	}
	return spiffeid.FromPath(td, path)
}

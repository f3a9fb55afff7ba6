package server

import (
	"context"
	"net"
	"net/http"
	"os"
	"strconv"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/identity"
	"github.com/exeat-dev/exeat/policy"
)

type (
	callerKey struct{}
	peerKey   struct{}
)

// callerOf gives who calls; a route that is not public always has one.
func callerOf(ctx context.Context) grant.Caller {
	c, _ := ctx.Value(callerKey{}).(grant.Caller)
	return c
}

// peerCaller is the sidecar whose certificate the connection was verified
// with, and its agent. Nothing that the request says makes it someone else.
func (s *Server) peerCaller(req *http.Request) (grant.Caller, *Problem) {
	id, err := identity.PeerIDFromState(req.TLS)
	if err != nil {
		return grant.Caller{}, problem(codeNoIdentity,
			"An agent calls through its sidecar, at EXEAT_URL, which shows its certificate for it; people sign in with exeat login.")
	}
	cat := s.index.Catalog()
	if cat == nil {
		return grant.Caller{}, problemOf(grant.ErrNoCatalog)
	}
	if id.TrustDomain().Name() != s.domain {
		return grant.Caller{}, unknownCaller()
	}
	agent, ok := cat.AgentBySidecar(id.String())
	if !ok {
		if _, isAgent := cat.AgentBySPIFFEID(id.String()); isAgent {
			return grant.Caller{}, problem(codeUseSidecar, "Call through your sidecar, at EXEAT_URL, and not with your own SVID.")
		}
		return grant.Caller{}, unknownCaller()
	}
	return grant.Caller{
		Agent: agent, Instance: policy.Instance(id.String()), Name: id.String(),
		// Only a sidecar is believed about it, whose own configuration sets or
		// removes this header.
		TaskFromRoom: policy.TaskID(req.Header.Get(policy.HeaderTask)),
		Proof:        policy.NewSecret(req.Header.Get(policy.HeaderTaskCredential)),
	}, nil
}

func unknownCaller() *Problem {
	return problem(codeUnknownCaller, "Put this identity into the catalog as the sidecarID of an agent.")
}

// localCaller is whoever runs this process: the kernel says which user is at
// the other end of the socket, and no other one, root included, is served.
func (s *Server) localCaller(req *http.Request) (grant.Caller, *Problem) {
	peer, ok := peerOf(req.Context())
	if !ok || int(peer.UID) != os.Getuid() {
		return grant.Caller{}, problem(codeNotLocalUser, "Run this as the user that runs exeatd.")
	}
	return grant.Caller{Operator: true, Name: "local/uid/" + strconv.Itoa(int(peer.UID))}, nil
}

// ConnContext notes who is at the other end of a Unix socket, as the kernel
// knew it when the connection was accepted. It is for http.Server.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	peer, err := identity.PeerOf(conn)
	if err != nil {
		return ctx // without a peer nothing is served
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

func peerOf(ctx context.Context) (identity.Peer, bool) {
	p, ok := ctx.Value(peerKey{}).(identity.Peer)
	return p, ok
}

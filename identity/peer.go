package identity

import (
	"context"
	"errors"
	"net"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// Peer is the process at the other end of a Unix socket, as the kernel named it
// when the connection was accepted.
type Peer struct {
	PID   int
	UID   uint32
	GID   uint32
	Start uint64 // tells it from a later process with the same PID
}

// PeerOf asks the kernel who made a connection to a Unix socket. Call it once,
// right after the connection was accepted.
func PeerOf(conn net.Conn) (Peer, error) {
	uc, ok := conn.(*net.UnixConn)
	if !ok {
		return Peer{}, errors.New("identity: not a connection of a Unix socket")
	}
	return peerOf(uc)
}

// Verify fails unless the peer's process still runs. A connection outlives the
// process that made it when a child has inherited it.
func (p Peer) Verify() error { return p.process().verify() }

func (p Peer) process() process { return process{pid: p.PID, start: p.Start} }

// peerInfo is Peer as gRPC carries it.
type peerInfo struct {
	credentials.CommonAuthInfo
	peer Peer
}

func (peerInfo) AuthType() string { return "so_peercred" }

// PeerFromContext is who made this gRPC call, on a server with PeerCredentials.
// It fails when that process has ended.
func PeerFromContext(ctx context.Context) (Peer, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return Peer{}, errors.New("identity: the call has no peer")
	}
	info, ok := p.AuthInfo.(peerInfo)
	if !ok {
		return Peer{}, errors.New("identity: the call's peer is unknown")
	}
	return info.peer, info.peer.Verify()
}

// PeerCredentials makes a gRPC server on a Unix socket know its callers by
// SO_PEERCRED. The transport stays plain: the kernel carries it.
func PeerCredentials() credentials.TransportCredentials { return peerCredentials{} }

type peerCredentials struct{}

func (peerCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	p, err := PeerOf(conn)
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return conn, peerInfo{CommonAuthInfo: level, peer: p}, nil
}

func (peerCredentials) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("identity: these credentials are for servers")
}

func (peerCredentials) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "so_peercred"}
}

func (peerCredentials) Clone() credentials.TransportCredentials { return peerCredentials{} }

func (peerCredentials) OverrideServerName(string) error { return nil }

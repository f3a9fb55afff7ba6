//go:build !linux

package identity

import (
	"errors"
	"net"
)

func peerOf(*net.UnixConn) (Peer, error) {
	return Peer{}, errors.New("identity: the peer of a Unix socket is known on Linux only")
}

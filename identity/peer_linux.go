package identity

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// peerOf reads SO_PEERCRED (socket(7)). Where the kernel has it (Linux 6.5), the
// pidfd of the peer shows that the PID was still its own when its start time was
// read: without that a caller could die and leave its PID to another.
func peerOf(conn *net.UnixConn) (Peer, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return Peer{}, fmt.Errorf("identity: %w", err)
	}
	var p Peer
	var inner error
	err = raw.Control(func(fd uintptr) { p, inner = readPeer(int(fd)) })
	if err = errors.Join(err, inner); err != nil {
		return Peer{}, fmt.Errorf("identity: the peer cannot be told: %w", err)
	}
	return p, nil
}

func readPeer(fd int) (Peer, error) {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return Peer{}, err
	}
	found, err := processOf(int(cred.Pid))
	if err != nil {
		return Peer{}, err
	}
	if err := stillRuns(fd); err != nil {
		return Peer{}, err
	}
	return Peer{PID: found.pid, UID: cred.Uid, GID: cred.Gid, Start: found.start}, nil
}

// stillRuns asks the peer's pidfd; a kernel without one has no answer, which
// leaves the start time as the only check.
func stillRuns(fd int) error {
	pidfd, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PEERPIDFD)
	switch {
	case errors.Is(err, unix.ENOPROTOOPT):
		return nil
	case err != nil:
		return errGone // the kernel has no pidfd for a process that was reaped
	}
	defer func() { _ = unix.Close(pidfd) }()
	poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
	if n, err := unix.Poll(poll, 0); err != nil || n != 0 { // readable means ended (pidfd_open(2))
		return errGone
	}
	return nil
}

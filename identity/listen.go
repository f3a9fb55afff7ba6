package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketPath is what fits into sockaddr_un on every system that we know.
const maxSocketPath = 103

// ListenUnix listens on a Unix socket of mode 0600, in a folder that is private
// to this user (made when absent). A socket that a dead process left behind is
// replaced; one that still answers is not.
func ListenUnix(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("identity: the socket's path %s has %d bytes, at most %d work; choose a shorter folder", path, len(path), maxSocketPath)
	}
	// The folder keeps others out in the moment before the mode is set.
	if err := privateDir(filepath.Dir(path)); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, fmt.Errorf("identity: %w", err)
	}
	return listener, nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("identity: %s is there and is not a socket; move it away", path)
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fmt.Errorf("identity: another process serves %s; stop it first", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("identity: %w", err)
	}
	return os.Remove(path)
}

package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/exeat-dev/exeat/identity"
)

// maxSocketPath is how long a Unix socket's path may be (sun_path, less its
// closing NUL, on the shorter of the systems that we run on).
const maxSocketPath = 103

// listeners are what one process of `exeatd dev` serves on.
type listeners struct {
	api, grpc, metrics net.Listener
	local              net.Listener
	workload           string // path; the authority listens by itself
	sockets            string // a folder of our own, when DATA's path is too long
}

func listen(o devOptions) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, tcp := range []struct {
		to         *net.Listener
		flag, addr string
	}{{&l.api, "--api", o.api}, {&l.grpc, "--grpc", o.grpc}, {&l.metrics, "--metrics", o.metrics}} {
		if *tcp.to, err = listenLoopback(tcp.flag, tcp.addr); err != nil {
			return l, err
		}
	}
	dir := o.data
	if len(filepath.Join(dir, "workload.sock")) > maxSocketPath {
		if l.sockets, err = os.MkdirTemp("", "exeat-"); err != nil {
			return l, err
		}
		dir = l.sockets
	}
	l.workload = filepath.Join(dir, "workload.sock")
	l.local, err = identity.ListenUnix(filepath.Join(dir, "local.sock"))
	return l, err
}

// listenLoopback refuses other addresses: dev mode has one user and no
// network.
func listenLoopback(flag, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("%s %s: want HOST:PORT, such as 127.0.0.1:0: %w", flag, addr, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("%s %s: exeatd dev listens on loopback addresses only, such as 127.0.0.1", flag, addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; stop what listens there, or choose another port (0 takes any free one)", flag, err)
	}
	return l, nil
}

func (l listeners) close() {
	for _, x := range []net.Listener{l.api, l.grpc, l.metrics, l.local} {
		if x != nil {
			x.Close()
		}
	}
	if l.sockets != "" {
		os.RemoveAll(l.sockets)
	}
}

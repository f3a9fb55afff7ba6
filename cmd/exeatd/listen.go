package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/identity"
)

// maxSocketPath is how long a Unix socket's path may be (sun_path, less its
// closing NUL, on the shorter of the systems that we run on).
const maxSocketPath = 103

// listeners are what one process serves on; nil ones it does not.
type listeners struct {
	api, grpc, metrics net.Listener
	local              net.Listener
	workload           string // dev: path; the authority listens by itself
	sockets            string // a folder of our own, when DATA's path is too long
}

func listen(s settings) (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	for _, tcp := range []struct {
		to         *net.Listener
		name, addr string
	}{{&l.api, "api", s.listen.api}, {&l.grpc, "grpc", s.listen.grpc}, {&l.metrics, "metrics", s.listen.metrics}} {
		if tcp.addr == "" {
			continue
		}
		if *tcp.to, err = listenTCP(s.dev != nil, tcp.name, tcp.addr); err != nil {
			return l, err
		}
	}
	if s.dev != nil {
		if err := l.devSockets(&s); err != nil {
			return l, err
		}
	}
	if s.listen.local != "" {
		l.local, err = identity.ListenUnix(s.listen.local)
	}
	return l, err
}

// devSockets puts both sockets into the data folder, unless its path is too long.
func (l *listeners) devSockets(s *settings) (err error) {
	dir := s.data
	if len(filepath.Join(dir, "workload.sock")) > maxSocketPath {
		if l.sockets, err = os.MkdirTemp("", "exeat-"); err != nil {
			return err
		}
		dir = l.sockets
	}
	l.workload, s.listen.local = filepath.Join(dir, "workload.sock"), filepath.Join(dir, "local.sock")
	return nil
}

// listenTCP refuses other addresses than loopback ones in dev, which has one
// user and no network.
func listenTCP(dev bool, name, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("--%s %s: want HOST:PORT, such as 127.0.0.1:0: %w", name, addr, err)
	}
	if ip := net.ParseIP(host); dev && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("--%s %s: exeatd dev listens on loopback addresses only, such as 127.0.0.1", name, addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--%s: %w; stop what listens there, or choose another port (0 takes any free one)", name, err)
	}
	return l, nil
}

// endpoints say where that is.
func (l listeners) endpoints() client.Endpoints {
	e := client.Endpoints{WorkloadSocket: l.workload}
	if l.api != nil {
		e.API = "https://" + l.api.Addr().String()
	}
	if l.grpc != nil {
		e.GRPC = l.grpc.Addr().String()
	}
	if l.metrics != nil {
		e.Metrics = "http://" + l.metrics.Addr().String()
	}
	if l.local != nil {
		e.LocalSocket = l.local.Addr().String()
	}
	return e
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

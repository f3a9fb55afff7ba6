package sidecar

import (
	"errors"
	"sync"
)

// gate lets one process at a time have the sidecar's identity: the Envoy that
// was started last. Its zero value lets nobody pass.
type gate struct {
	mu  sync.Mutex
	pid int
}

// open runs start and admits the process that it made. Callers wait meanwhile,
// so that Envoy cannot ask before its PID is known.
func (g *gate) open(start func() (pid int, err error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	pid, err := start()
	if err == nil {
		g.pid = pid
	}
	return err
}

// close must come before the process is reaped: after that its PID is free for
// another one.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pid = 0
}

func (g *gate) check(pid int) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pid == 0 || pid != g.pid {
		return errors.New("only the sidecar's own Envoy has its identity")
	}
	return nil
}

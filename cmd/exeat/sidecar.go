package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/sidecar"
)

// process is a running exeat-sidecar.
type process struct {
	cmd    *exec.Cmd
	status sidecar.Status
	dir    string // the sidecar's own; empty until it is ready
	exited chan struct{}
	errors *tail
}

// startSidecar starts exeat-sidecar and returns once its Envoy serves. It makes
// a folder of its own and removes it, so that nothing stays if we are killed.
func startSidecar(ctx context.Context, o runOptions, e client.Endpoints) (*process, error) {
	ready, report, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	p := &process{exited: make(chan struct{}), errors: &tail{}}
	args := []string{"--agent", o.agent, "--local-socket", e.LocalSocket, "--ready-fd", "3", "--die-with-parent"}
	if o.envoy != "" {
		args = append(args, "--envoy", o.envoy)
	}
	p.cmd = exec.Command(sibling("exeat-sidecar"), args...)
	p.cmd.ExtraFiles, p.cmd.Stderr = []*os.File{report}, p.errors
	// A terminal's interrupt is for the command; the sidecar outlives it.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	err = p.cmd.Start()
	report.Close()
	if err != nil {
		return nil, fmt.Errorf("start the sidecar: %w; build it with `make build`", err)
	}
	go func() {
		_ = p.cmd.Wait() // how it ended is told by awaitReady, if it ended early
		close(p.exited)
	}()
	if err := p.awaitReady(ctx, ready); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// awaitReady reads the one line that the sidecar writes when it serves.
func (p *process) awaitReady(ctx context.Context, r *os.File) error {
	lines := make(chan []byte, 1)
	go func() {
		line, _ := bufio.NewReader(r).ReadBytes('\n')
		lines <- line
	}()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case line := <-lines:
		if len(line) == 0 {
			<-p.exited
			return fmt.Errorf("the sidecar ended before it was ready:\n%s", bytes.TrimSpace(p.errors.bytes()))
		}
		if err := json.Unmarshal(line, &p.status); err != nil {
			return errors.New("the sidecar reported something else than its status; exeat and exeat-sidecar must be of one version")
		}
		p.dir = filepath.Dir(p.status.CAFile)
		return nil
	}
}

// stopWait is how long the sidecar gets to end by itself.
const stopWait = 5 * time.Second

// stop ends the sidecar, and with it its Envoy, and removes its folder if it
// was killed before it could.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	select {
	case <-p.exited:
	case <-time.After(stopWait):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	if p.dir != "" {
		os.RemoveAll(p.dir)
	}
}

// Package world starts what the tickets example needs, for the demo and for
// whole-system tests: the ticket service, and a real exeatd over a catalog of
// its own.
package world

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/exeat-dev/exeat/client"
	"github.com/exeat-dev/exeat/examples/tickets"
	"github.com/exeat-dev/exeat/examples/tickets/service"
)

// Options of a World. Bin and Dir are needed.
type Options struct {
	Bin   string    // folder of exeatd, exeat and exeat-sidecar
	Dir   string    // everything is kept under it
	Log   io.Writer // of exeatd; nil: kept, and shown when it fails to start
	Flags []string  // further ones of exeatd dev
}

// World is a running exeatd with a ticket service.
type World struct {
	Options
	Catalog, Data string // folders
	Tickets       *service.Service
	Address       string // of the ticket service
	Endpoints     client.Endpoints

	exeatd *exec.Cmd
	exited chan struct{}
	output *bytes.Buffer
	stop   context.CancelFunc
	served chan error
}

// Start starts both and returns once exeatd is ready.
func Start(ctx context.Context, o Options) (*World, error) {
	w := &World{Options: o, Catalog: filepath.Join(o.Dir, "catalog"), Data: filepath.Join(o.Dir, "data")}
	if err := w.startTickets(); err != nil {
		return nil, err
	}
	if err := tickets.WriteCatalog(w.Catalog, w.Address, w.Tickets.CAPEM()); err != nil {
		w.Close()
		return nil, err
	}
	if err := w.StartExeatd(ctx); err != nil {
		w.Close()
		return nil, err
	}
	ca, err := os.ReadFile(w.Endpoints.CAFile)
	if err == nil {
		err = w.Tickets.Trust(w.Endpoints.Issuer, ca)
	}
	if err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

func (w *World) startTickets() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.Address = l.Addr().String()
	log, err := os.Create(filepath.Join(w.Dir, "tickets.log"))
	if err != nil {
		return errors.Join(err, l.Close())
	}
	if w.Tickets, err = service.New(service.Config{Log: log}); err != nil {
		return errors.Join(err, l.Close(), log.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop, w.served = stop, make(chan error, 1)
	go func() { w.served <- errors.Join(w.Tickets.Serve(ctx, l), log.Close()) }()
	return nil
}

// StartExeatd starts exeatd on the world's folder, again if it was killed, on
// the addresses that it had.
func (w *World) StartExeatd(ctx context.Context) error {
	api, grpc, metrics := "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
	if w.Endpoints.API != "" {
		api, grpc, metrics = w.Endpoints.API[len("https://"):], w.Endpoints.GRPC, w.Endpoints.Metrics[len("http://"):]
	}
	// An older file would look like the new process's.
	if err := os.Remove(filepath.Join(w.Data, "endpoints.json")); err != nil && !os.IsNotExist(err) {
		return err
	}
	args := append([]string{"dev", "--catalog", w.Catalog, "--data", w.Data, "--api", api, "--grpc", grpc, "--metrics", metrics}, w.Flags...)
	w.exeatd, w.exited, w.output = exec.Command(filepath.Join(w.Bin, "exeatd"), args...), make(chan struct{}), &bytes.Buffer{}
	w.exeatd.Stderr = w.Log
	if w.Log == nil {
		w.exeatd.Stderr = w.output
	}
	// A terminal's interrupt is for us to handle; our own death ends it.
	w.exeatd.SysProcAttr = dieWithParent()
	if err := w.exeatd.Start(); err != nil {
		return fmt.Errorf("start exeatd: %w; build it with `make build`", err)
	}
	cmd, exited := w.exeatd, w.exited
	go func() {
		_ = cmd.Wait() // whoever waits for exited asks how it ended
		close(exited)
	}()
	return w.awaitReady(ctx)
}

// awaitReady polls for what another process will write: there is nobody to
// tell us.
func (w *World) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-w.exited:
			return fmt.Errorf("exeatd ended: %s\n%s", w.exeatd.ProcessState, w.output)
		case <-ctx.Done():
			return fmt.Errorf("exeatd is not ready: %w\n%s", ctx.Err(), w.output)
		case <-tick.C:
		}
		e, err := client.ReadEndpoints(w.Data)
		if err != nil {
			continue
		}
		w.Endpoints = e
		if ready(ctx, e.Metrics+"/readyz") {
			return nil
		}
	}
}

func ready(ctx context.Context, url string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// Exeat is the command `exeat args...` against this world.
func (w *World) Exeat(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(w.Bin, "exeat"), args...)
	cmd.Env = append(os.Environ(), "EXEAT_DATA="+w.Data)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 20 * time.Second
	return cmd
}

// Operator is a client of exeatd's local socket.
func (w *World) Operator() (*client.Client, error) { return client.NewLocal(w.Endpoints.LocalSocket) }

// KillExeatd ends exeatd as a crash would, and returns once it is gone.
func (w *World) KillExeatd() error { return w.signal(syscall.SIGKILL) }

// StopExeatd has exeatd drain, and returns once it is gone: an error if that did
// not go well.
func (w *World) StopExeatd() error {
	if err := w.signal(syscall.SIGTERM); err != nil {
		return err
	}
	if !w.exeatd.ProcessState.Success() {
		return fmt.Errorf("exeatd was asked to end: %s", w.exeatd.ProcessState)
	}
	return nil
}

// PID is exeatd's.
func (w *World) PID() int { return w.exeatd.Process.Pid }

func (w *World) signal(s os.Signal) error {
	if err := w.exeatd.Process.Signal(s); err != nil {
		return err
	}
	select {
	case <-w.exited:
		return nil
	case <-time.After(20 * time.Second):
		return errors.Join(errors.New("exeatd did not end"), w.exeatd.Process.Kill())
	}
}

// Close ends both. What they wrote stays in Dir.
func (w *World) Close() error {
	var errs []error
	if w.exeatd != nil && w.exeatd.Process != nil {
		select {
		case <-w.exited:
		default:
			errs = append(errs, w.StopExeatd())
		}
	}
	if w.stop != nil {
		w.stop()
		errs = append(errs, <-w.served)
	}
	return errors.Join(errs...)
}

package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// What can be missing when Envoy is not ready.
var (
	errNotLive      = errors.New("no configuration has come for Envoy: is exeatd running, and does its catalog know this sidecar?")
	errNotConnected = errors.New("no connection from Envoy to the control plane: is exeatd running, and is its address right?")
)

// supervisor keeps one Envoy running.
type supervisor struct {
	envoy string // the binary
	plan  blueprint
	gate  *gate
	admin admin
	stop  time.Duration // from SIGTERM to SIGKILL
	log   *slog.Logger

	mu   sync.Mutex
	lack error // what is missing until Envoy is ready
}

// steady is how long an Envoy must have run for its end to count as the first.
const steady = 30 * time.Second

// run keeps Envoy running until ctx ends, and calls up when the first one is
// ready; later ones take over its ports. It fails when Envoy ends before any was
// ready: then something is wrong that trying again does not heal.
func (s *supervisor) run(ctx context.Context, up func(ports)) error {
	wasUp := false
	once := func(p ports) {
		if !wasUp {
			wasUp = true
			up(p)
		}
	}
	for pause := time.Duration(0); ; {
		began := time.Now()
		err := s.once(ctx, once)
		if err == nil || !wasUp {
			return err
		}
		if time.Since(began) > steady {
			pause = 0
		}
		pause = nextPause(pause)
		s.log.Error("Envoy ended and is started again", "error", err, "pause_ms", pause.Milliseconds())
		if !sleep(ctx, pause) {
			return nil
		}
	}
}

// once runs one Envoy to its end, which is an error unless ctx ended it.
func (s *supervisor) once(ctx context.Context, up func(ports)) error {
	path, err := s.plan.write()
	if err != nil {
		return fmt.Errorf("sidecar: cannot write Envoy's bootstrap: %w", err)
	}
	c, err := startEnvoy(s.envoy, path, s.gate, s.log)
	if err != nil {
		return fmt.Errorf("sidecar: Envoy cannot be started: %w", err)
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	ready := s.await(waiting)
	for {
		select {
		case p := <-ready:
			// Whoever started the agent has told it these ports.
			s.plan.egress, s.plan.apiListen = p.egress, p.api
			ready = nil
			up(p)
		case <-c.ended:
			return fmt.Errorf("sidecar: Envoy ended: %w; its last error: %s", c.cause(), c.output.lastError())
		case <-ctx.Done():
			c.stop(s.stop)
			return nil
		}
	}
}

// await gives the ports once Envoy is ready. Its admin tells no event, so it is
// asked, less often with time.
func (s *supervisor) await(ctx context.Context) <-chan ports {
	out := make(chan ports, 1)
	go func() {
		for pause := 5 * time.Millisecond; sleep(ctx, pause); pause = min(pause*5/4, 100*time.Millisecond) {
			p, err := s.admin.ready(ctx)
			if err == nil {
				out <- p
				return
			}
			s.setLack(err)
		}
	}()
	return out
}

func (s *supervisor) setLack(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lack = err
}

// missing is what Envoy still waits for.
func (s *supervisor) missing() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lack
}

// nextPause doubles the wait, from 100 ms to 5 s.
func nextPause(last time.Duration) time.Duration {
	return min(max(2*last, 100*time.Millisecond), 5*time.Second)
}

// sleep is false when ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/exeat-dev/exeat/client"
)

// beatsPerInterval is how many heartbeats are sent within the time in which one
// is expected, so that a lost one does not end the task.
const beatsPerInterval = 2

// heart sends a task's heartbeats for as long as this process lives: if it is
// killed, they stop, and the task ends as failed with all its grants.
type heart struct {
	api    *client.Client
	out    io.Writer
	every  time.Duration
	cancel context.CancelFunc
	done   chan struct{}
}

// startHeart begins to send; every is how often the task expects one.
func startHeart(ctx context.Context, api *client.Client, task string, every time.Duration, out io.Writer) *heart {
	ctx, cancel := context.WithCancel(ctx)
	h := &heart{api: api, out: out, every: every / beatsPerInterval, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(h.done)
		if every > 0 {
			h.beat(ctx, task)
		}
	}()
	return h
}

// stop ends it; a nil heart never began.
func (h *heart) stop() {
	if h != nil {
		h.cancel()
		<-h.done
	}
}

func (h *heart) beat(ctx context.Context, task string) {
	tick := time.NewTicker(h.every)
	defer tick.Stop()
	state := "active"
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		t, err := h.once(ctx, task)
		var p *client.Problem
		if errors.As(err, &p) && (p.Code == "ended" || p.Code == "not_found") {
			fmt.Fprintf(h.out, "exeat: the task has ended; no call leaves any more\n")
			return
		}
		if err == nil && t.State != state { // what else fails is tried again
			state = t.State
			h.tell(t)
		}
	}
}

func (h *heart) once(ctx context.Context, task string) (client.Task, error) {
	ctx, cancel := context.WithTimeout(ctx, h.every)
	defer cancel()
	return h.api.Heartbeat(ctx, task)
}

func (h *heart) tell(t client.Task) {
	if t.State == "paused" {
		fmt.Fprintf(h.out, "exeat: the task is paused by %s; calls are denied until it is resumed\n", t.PausedBy)
		return
	}
	fmt.Fprintf(h.out, "exeat: the task is %s\n", t.State)
}

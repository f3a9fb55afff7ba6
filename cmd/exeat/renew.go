package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/client"
)

const (
	// renewAt is the part of a grant's life after which its renewal is asked for.
	renewAt = 0.7
	// renewAgain is how long to wait after a renewal that failed for a reason
	// that may pass.
	renewAgain = 2 * time.Second
)

// renewer asks for the successor of each grant while there is time.
type renewer struct {
	api    *client.Client
	out    io.Writer
	mu     sync.Mutex // out
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func startRenewer(ctx context.Context, api *client.Client, grants []client.Grant, out io.Writer) *renewer {
	ctx, cancel := context.WithCancel(ctx)
	r := &renewer{api: api, out: out, cancel: cancel}
	for _, g := range grants {
		r.wg.Go(func() { r.keep(ctx, g) })
	}
	return r
}

// stop ends it; a nil renewer never began.
func (r *renewer) stop() {
	if r != nil {
		r.cancel()
		r.wg.Wait()
	}
}

// keep renews a grant, and then its successor, until one is refused.
func (r *renewer) keep(ctx context.Context, g client.Grant) {
	due := renewalDue(g, time.Now())
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(due)):
		}
		next, err := r.api.RenewGrant(ctx, g.ID, 0, readyWait)
		var p *client.Problem
		switch {
		case ctx.Err() != nil:
			return
		case err == nil && next.State == "active":
			g, due = next, renewalDue(next, time.Now())
		case err == nil || errors.As(err, &p) && p.Status < 500 || !time.Now().Before(g.Until):
			r.tell(g, next, err)
			return
		default: // the API cannot be reached, or cannot answer now
			due = time.Now().Add(renewAgain)
		}
	}
}

// renewalDue is when to ask for the successor of a grant that is here since now.
func renewalDue(g client.Grant, now time.Time) time.Time {
	life := g.Until.Sub(g.RequestedAt)
	return now.Add(time.Duration(renewAt * float64(life)))
}

func (r *renewer) tell(g, next client.Grant, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	why := fmt.Sprintf("%s is %s: %s", next.ID, next.State, next.Detail)
	if err != nil {
		why = err.Error()
	}
	fmt.Fprintf(r.out, "exeat: grant of %s is not renewed, and ends at %s: %s\n", g.Capability, clock(g.Until), why)
}

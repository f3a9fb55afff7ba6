package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/exeat-dev/exeat/client"
)

// denials shows each distinct denial of a task once, as it happens.
type denials struct {
	api    *client.Client
	task   string
	out    io.Writer
	seen   map[string]bool
	after  int
	cancel context.CancelFunc
	done   chan struct{}
}

func showDenials(ctx context.Context, api *client.Client, task string, out io.Writer) *denials {
	ctx, cancel := context.WithCancel(ctx)
	d := &denials{api: api, task: task, out: out, seen: map[string]bool{}, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(d.done)
		for denial, err := range api.FollowDenials(ctx, task) {
			if err != nil {
				return // the receipt tells what was missed
			}
			d.show(denial)
		}
	}()
	return d
}

// finish shows what came since the last look, and stops.
func (d *denials) finish(ctx context.Context) {
	d.cancel()
	<-d.done
	rest, _, err := d.api.Denials(ctx, d.task, d.after, 0)
	if err != nil {
		return
	}
	for _, denial := range rest {
		d.show(denial)
	}
}

func (d *denials) show(x client.Denial) {
	d.after = x.N
	key := x.Reason + " " + x.Method + " " + x.URL
	if d.seen[key] {
		return
	}
	d.seen[key] = true
	fmt.Fprintf(d.out, "exeat: denied %s %s: %s (decision %s)\n", x.Method, x.URL, x.Reason, x.Decision)
	for _, n := range x.Next {
		if n.Action == "request_grant" {
			fmt.Fprintf(d.out, "       ask for it: exeat request %s\n", flagValue(n.Capability, slices.Sorted(maps.Keys(n.Params)), n.Params))
		}
	}
}

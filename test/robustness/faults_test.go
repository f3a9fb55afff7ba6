package robustness

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/exeat-dev/exeat/test/stack"
)

// fault disturbs the system until it is undone.
type fault struct {
	name string
	do   func(t *testing.T)
	undo func(t *testing.T)
}

// faults draws faults from a seed: the same seed, the same faults in the same
// order and for the same times.
type faults struct {
	cluster  *stack.Cluster
	sidecars []*stack.ClusterSidecar
	r        *rand.Rand
	longest  int // ms that one fault lasts
}

// step is one fault, and how long there is none after it.
type step struct {
	fault
	For, Apart time.Duration
}

func (f *faults) next() step {
	return step{fault: f.draw(), For: f.between(200, f.longest), Apart: f.between(100, f.longest/2)}
}

func (f *faults) between(least, most int) time.Duration {
	return time.Duration(least+f.r.IntN(most-least)) * time.Millisecond
}

func one[T any](r *rand.Rand, list []T) T { return list[r.IntN(len(list))] }

// draw picks one at random. Of etcd's members at most one is ever touched at a
// time, see run: a cluster without a majority denies, and shows nothing else.
func (f *faults) draw() fault {
	e, m, s := one(f.r, f.cluster.Exeatds), one(f.r, f.cluster.Etcd.Members), one(f.r, f.sidecars)
	link := one(f.r, e.Stores)
	kinds := []func() fault{
		func() fault { return killed(e.Name, e.Kill, e.Start) },
		func() fault { return stopped(e.Name, e.Proc) },
		func() fault { return parted(e.Name+" from etcd", e.Stores, (*stack.Link).Hold) },
		func() fault { return parted(e.Name+" from etcd, told", e.Stores, (*stack.Link).Cut) },
		func() fault { return parted(e.Name+" from one member", []*stack.Link{link}, (*stack.Link).Hold) },
		func() fault { return parted("a sidecar from "+e.Name, s.Links[e], (*stack.Link).Hold) },
		func() fault { return parted("a sidecar from "+e.Name+", told", s.Links[e], (*stack.Link).Cut) },
		func() fault {
			delay := f.between(50, 400)
			return parted(e.Name+" slowly from etcd", e.Stores, func(l *stack.Link) { l.Slow(delay) })
		},
		func() fault { return fault{"compaction", f.compact, func(*testing.T) {}} },
		func() fault { return killed(m.Name, m.Kill, m.Start) },
		func() fault { return stopped(m.Name, m.Proc) },
		func() fault { return parted(m.Name+" from its peers", []*stack.Link{m.Peers}, (*stack.Link).Hold) },
	}
	return one(f.r, kinds)()
}

func killed(name string, kill func(), start func(testing.TB)) fault {
	return fault{"kill -9 " + name, func(*testing.T) { kill() }, func(t *testing.T) { start(t) }}
}

func stopped(name string, p *stack.Proc) fault {
	return fault{"SIGSTOP " + name, func(*testing.T) { p.Stop() }, func(*testing.T) { p.Continue() }}
}

func parted(name string, links []*stack.Link, part func(*stack.Link)) fault {
	return fault{"part " + name,
		func(*testing.T) {
			for _, l := range links {
				part(l)
			}
		},
		func(*testing.T) {
			for _, l := range links {
				l.Heal()
			}
		}}
}

// compact drops all history that etcd has: who follows has to load anew.
func (f *faults) compact(t *testing.T) {
	c := f.cluster.Etcd.Connect(t)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	r, err := c.Get(ctx, "test/ready")
	if err != nil {
		return // there is no majority just now
	}
	if _, err := c.Compact(ctx, r.Header.Revision); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		t.Logf("compaction: %v", err)
	}
}

// run disturbs until the time is over, one fault after another, and undoes the
// last. It gives what it did.
func (f *faults) run(t *testing.T, total time.Duration) (done []string) {
	began := time.Now()
	for time.Since(began) < total {
		s := f.next()
		at := time.Since(began).Round(time.Millisecond)
		s.do(t)
		time.Sleep(min(s.For, max(0, total-time.Since(began)))) // time is what the fault is made of
		s.undo(t)
		done = append(done, fmt.Sprintf("%8v %s for %v", at, s.name, s.For))
		time.Sleep(min(s.Apart, max(0, total-time.Since(began))))
	}
	return done
}

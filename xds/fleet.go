package xds

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// fleet is the instances that are connected to this process. One goroutine
// follows the store and computes anew what changed; each stream's own goroutine
// sends it.
type fleet struct {
	server  *Server
	index   *store.Index
	acks    acknowledger
	builder builder
	// model computes what an instance is to hold, and the revision it is of.
	model func(policy.Instance) (Sidecar, int64)

	mu        sync.Mutex
	instances map[policy.Instance]*instance
}

// instance is one sidecar. It has one stream, or two while it reconnects; then
// it is as far as the one that is behind.
type instance struct {
	id       policy.Instance
	config   *config
	members  map[*member]struct{}
	reported store.InstanceAck
}

// member is one stream of an instance.
type member struct {
	instance *instance
	agent    string
	session  *session // its goroutine's
	wake     chan struct{}
	config   atomic.Pointer[config]
	ack      store.InstanceAck // as last reported; the fleet's lock

	// When a change came that is not yet in force; the session's goroutine's.
	readySince, cutSince time.Time
}

// run follows the store until ctx ends. What changes while it computes arrives
// as one batch: that is all the debouncing a change needs, and a lone one waits
// for nothing.
func (f *fleet) run(ctx context.Context) error {
	sub := f.index.Subscribe()
	defer sub.Close()
	for {
		batch, err := sub.Next(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		f.apply(batch)
	}
}

func (f *fleet) apply(b store.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if b.All {
		for _, in := range f.instances {
			f.rebuild(in)
		}
		return
	}
	touched := make(map[policy.Instance]struct{}, len(b.Instances))
	for id := range b.Instances {
		touched[id] = struct{}{}
	}
	for task := range b.Tasks {
		if v := f.index.Task(task); v != nil {
			touched[v.Task.Instance] = struct{}{}
		}
	}
	for id := range touched {
		if in := f.instances[id]; in != nil {
			f.rebuild(in)
		}
	}
}

// rebuild computes an instance's config and hands it to its streams.
func (f *fleet) rebuild(in *instance) {
	start := time.Now()
	model, revision := f.model(in.id)
	in.config = f.builder.build(model, revision, in.config)
	f.server.metrics.build.Observe(time.Since(start).Seconds())
	for m := range in.members {
		m.give(in.config)
	}
}

func (m *member) give(c *config) {
	m.config.Store(c)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (f *fleet) join(id policy.Instance, agent string, sess *session) *member {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := f.instances[id]
	if in == nil {
		in = &instance{id: id, members: make(map[*member]struct{})}
		f.instances[id] = in
	}
	m := &member{instance: in, agent: agent, session: sess, wake: make(chan struct{}, 1)}
	in.members[m] = struct{}{}
	f.rebuild(in)
	f.acknowledge(in)
	f.server.metrics.connected.Set(float64(len(f.instances)))
	f.server.log.Info("sidecar connected", "instance", id, "agent", agent)
	return m
}

func (f *fleet) leave(m *member) {
	f.mu.Lock()
	defer f.mu.Unlock()
	in := m.instance
	delete(in.members, m)
	if len(in.members) > 0 {
		f.acknowledge(in)
		return
	}
	delete(f.instances, in.id)
	f.acks.DropInstance(in.id)
	f.server.metrics.turned(in.reported.Rejected != "", false)
	f.server.metrics.connected.Set(float64(len(f.instances)))
	f.server.log.Info("sidecar disconnected", "instance", in.id, "agent", m.agent)
}

// report tells the store how far a stream's Envoy is, when that changed.
func (f *fleet) report(ctx context.Context, m *member) {
	sess := m.session
	ack := store.InstanceAck{
		Instance: m.instance.id, Ready: sess.ready, Cut: sess.cut, Rejected: sess.rejected(), Version: sess.version,
	}
	f.mu.Lock()
	changed := ack != m.ack
	m.ack = ack
	if changed {
		f.acknowledge(m.instance)
	}
	f.mu.Unlock()
	if changed && sess.took && ack.Ready == sess.want.revision {
		sess.took = false
		f.server.record(ctx, m, Event{Accepted: true})
	}
}

// acknowledge reports the instance: as far as the stream that is behind.
func (f *fleet) acknowledge(in *instance) {
	ack := store.InstanceAck{Instance: in.id}
	first := true
	for m := range in.members {
		if first {
			ack.Ready, ack.Cut, first = m.ack.Ready, m.ack.Cut, false
		}
		ack.Ready, ack.Cut = min(ack.Ready, m.ack.Ready), min(ack.Cut, m.ack.Cut)
		if m.ack.Rejected != "" {
			ack.Rejected = m.ack.Rejected
		}
		if m.ack.Version != "" {
			ack.Version = m.ack.Version
		}
	}
	if ack != in.reported {
		f.server.metrics.turned(in.reported.Rejected != "", ack.Rejected != "")
		in.reported = ack
		f.acks.AckInstance(ack)
	}
}

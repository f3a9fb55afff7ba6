package grant

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// byDenials is who suspends an agent by its own denials, in the record.
const byDenials = "exeat/denials"

// BucketDenials is the store's bucket in which replicas tell each other of an
// agent's denials: agent/replica to the times of those within the window.
const BucketDenials = "denials"

// Denials counts what each agent's calls are denied for, and suspends one when
// its catalog says that these are too many. Each authz replica counts its own
// exactly, at once; what others counted it learns within shareEvery.
type Denials struct {
	service *Service
	bucket  *store.Bucket // nil: this process is alone
	replica string

	mu     sync.Mutex
	agents map[string]*window
}

// window is one agent's denials, the latest of them, in order of time.
type window struct {
	own      []time.Time
	others   map[string][]time.Time // by replica
	per      time.Duration
	tripping bool // somebody is suspending the agent
	unshared bool
	rev      int64 // of this replica's entry in the bucket
}

// shareEvery is how often a replica tells the others at most.
const shareEvery = 500 * time.Millisecond

// tripWait bounds how long the denial that is one too many is held back, so that
// the next call finds the agent suspended.
const tripWait = 500 * time.Millisecond

// NewDenials makes a counter for an authz replica. The replica's name is unique;
// empty when there is no other.
func (s *Service) NewDenials(replica string) *Denials {
	d := &Denials{service: s, replica: replica, agents: map[string]*window{}}
	if replica != "" {
		d.bucket = s.store.Bucket(BucketDenials)
	}
	return d
}

// Denied counts one denied call of an agent. The one that is one too many
// returns once the agent is suspended, or after half a second.
func (d *Denials) Denied(ctx context.Context, agent *policy.Agent, reason policy.Reason) {
	if agent == nil || agent.OnDenials == nil || !reason.ByAgent() {
		return
	}
	if d.count(agent, d.service.store.Now()) {
		d.trip(ctx, agent)
	}
}

// count adds one, and reports whether that makes it too many.
func (d *Denials) count(agent *policy.Agent, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.window(agent)
	w.own = append(w.own, now)
	w.unshared = true
	return w.full(agent.OnDenials, now)
}

func (d *Denials) window(agent *policy.Agent) *window {
	w := d.agents[agent.Name]
	if w == nil {
		w = &window{others: map[string][]time.Time{}}
		d.agents[agent.Name] = w
	}
	w.per = agent.OnDenials.Per
	return w
}

// full drops what has left the window and what is more than matters, and
// reports whether the threshold is reached; true once, until the trip is over.
func (w *window) full(at *policy.Threshold, now time.Time) bool {
	w.own = recent(w.own, now.Add(-at.Per), at.Count)
	total := len(w.own)
	for replica, times := range w.others {
		if w.others[replica] = recent(times, now.Add(-at.Per), at.Count); len(w.others[replica]) == 0 {
			delete(w.others, replica)
		}
		total += len(w.others[replica])
	}
	if total < at.Count || w.tripping {
		return false
	}
	w.tripping = true
	return true
}

// recent keeps those after since, at most the latest n.
func recent(times []time.Time, since time.Time, n int) []time.Time {
	i := max(0, len(times)-n)
	for i < len(times) && !times[i].After(since) {
		i++
	}
	return append(times[:0], times[i:]...)
}

// trip suspends the agent. When that fails, the next denial tries again.
func (d *Denials) trip(ctx context.Context, agent *policy.Agent) {
	// The call that is being denied may be given up; the suspension is not.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), tripWait)
	defer cancel()
	why := fmt.Sprintf("%d calls denied within %s", agent.OnDenials.Count, agent.OnDenials.Per)
	_, _, err := d.service.suspend(ctx, policy.Suspension{Agent: agent.Name, By: byDenials, Why: why}, 0)
	if err == nil {
		err = d.awaitSuspended(ctx, agent.Name)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.window(agent)
	w.tripping = false
	if err != nil {
		d.service.log.Error("an agent could not be suspended for its denials; the next one tries again",
			slog.String("agent", agent.Name), slog.Any("error", err))
		return
	}
	// Counted: once the agent is resumed it begins anew.
	w.own, w.others, w.unshared = nil, map[string][]time.Time{}, true
}

// awaitSuspended waits until this replica's checks see it.
func (d *Denials) awaitSuspended(ctx context.Context, agent string) error {
	sub := d.service.index.Subscribe()
	defer sub.Close()
	for d.service.index.Suspended(agent) == nil {
		if _, err := sub.Next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Run shares counts with the other replicas until ctx ends. Alone there is
// nobody to share them with.
func (d *Denials) Run(ctx context.Context) error {
	if d.bucket == nil {
		<-ctx.Done()
		return nil
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = d.bucket.Watch(ctx, func(e store.Entry) { d.heard(ctx, e) }) })
	defer wg.Wait()
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			d.tell(ctx)
		}
	}
}

// heard takes in what another replica counted. What it counted long ago is of
// no use to anybody, and it may be gone: then whoever hears of it removes it.
func (d *Denials) heard(ctx context.Context, e store.Entry) {
	name, replica, ok := strings.Cut(e.Key, "/")
	agent, known := d.service.index.Catalog().Agent(name)
	if !ok || !known || agent.OnDenials == nil || replica == d.replica {
		return
	}
	now, times := d.service.store.Now(), timesOf(e.Value)
	if n := len(times); n > 0 && !times[n-1].After(now.Add(-agent.OnDenials.Per)) {
		_ = d.bucket.Delete(ctx, e.Key, e.Revision) // the next to hear of it tries again
		times = nil
	}
	d.mu.Lock()
	w := d.window(agent)
	w.others[replica] = times
	full := len(w.others[replica]) > 0 && d.service.index.Suspended(name) == nil && w.full(agent.OnDenials, now)
	d.mu.Unlock()
	if full {
		d.trip(ctx, agent)
	}
}

// tell writes what this replica counted since it last did.
func (d *Denials) tell(ctx context.Context) {
	for name, e := range d.untold(d.service.store.Now()) {
		rev, err := d.put(ctx, name, e.Revision, e.Value)
		d.mu.Lock()
		w := d.agents[name]
		w.rev, w.unshared = rev, w.unshared || err != nil // counted here all the same, and told again
		d.mu.Unlock()
	}
}

// untold lists, by agent, what is to be written over which revision: what
// changed, and what has left the window.
func (d *Denials) untold(now time.Time) map[string]store.Entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	entries := map[string]store.Entry{}
	for name, w := range d.agents {
		w.own = recent(w.own, now.Add(-w.per), len(w.own))
		if w.unshared || w.rev != 0 && len(w.own) == 0 {
			w.unshared = false
			entries[name] = store.Entry{Value: bytesOf(w.own), Revision: w.rev}
		}
	}
	return entries
}

// put writes this replica's entry, or removes it when there is nothing in it.
func (d *Denials) put(ctx context.Context, agent string, rev int64, value []byte) (int64, error) {
	key := agent + "/" + d.replica
	if len(value) == 0 {
		if err := d.bucket.Delete(ctx, key, rev); err == nil {
			return 0, nil
		}
	} else if next, err := d.bucket.Swap(ctx, key, rev, value); err == nil {
		return next, nil
	} else if !errors.Is(err, store.ErrConflict) {
		return rev, err
	}
	// A process of this name was here before, or the answer to a write was lost.
	e, err := d.bucket.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return rev, err
	}
	return e.Revision, store.ErrConflict
}

// bytesOf packs times as nanoseconds since the Unix epoch.
func bytesOf(times []time.Time) []byte {
	var b []byte
	for _, t := range times {
		b = binary.BigEndian.AppendUint64(b, uint64(t.UnixNano()))
	}
	return b
}

// timesOf unpacks them; what is no list of times is none.
func timesOf(b []byte) []time.Time {
	var times []time.Time
	for ; len(b) >= 8; b = b[8:] {
		times = append(times, time.Unix(0, int64(binary.BigEndian.Uint64(b))).UTC())
	}
	return times
}

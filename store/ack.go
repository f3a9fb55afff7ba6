package store

import (
	"context"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/exeat-dev/exeat/policy"
)

// InstanceAck says how far one running sidecar's configuration is.
type InstanceAck struct {
	Instance policy.Instance
	// Ready: everything granted at or before this revision is in force.
	Ready int64
	// Cut: everything ended at or before this revision is out of force and its streams are closed.
	Cut int64
	// Rejected is Envoy's words for the configuration that it refused; empty when none is.
	Rejected string
	Version  string // Envoy's
}

// acks is who has acknowledged what: this process by function call, others
// by what they wrote under their leases.
type acks struct {
	index   *Index
	alone   bool         // nobody else reads what is written
	acked   atomic.Int64 // by this process
	changed broadcast
	dirty   chan struct{} // holds one: something is to be written
	lease   lease

	mu        sync.Mutex
	joined    map[string]int                  // roles of this process
	replicas  map[replicaKey]*replica         // other processes'
	local     map[policy.Instance]InstanceAck // connected to this process
	remote    map[policy.Instance]InstanceAck
	unwritten map[policy.Instance]struct{}
}

type replicaKey struct{ role, name string }

// replica is another process as its acknowledgements show it.
type replica struct {
	rev int64 // acknowledged
	mod int64 // of the key that this was read from
	// gone is when its lease was seen to have run out. It may still answer
	// checks until its own beats are too old, so it counts until then.
	gone time.Time
}

func newAcks(x *Index) *acks {
	return &acks{
		index: x, dirty: make(chan struct{}, 1), joined: make(map[string]int),
		replicas: make(map[replicaKey]*replica), local: make(map[policy.Instance]InstanceAck),
		remote: make(map[policy.Instance]InstanceAck), unwritten: make(map[policy.Instance]struct{}),
	}
}

// acknowledge follows the index: once the checks that began before a revision
// was applied are done, this process acknowledges it.
func (s *Store) acknowledge() {
	x, a := s.index, s.acks
	var closed, told int64
	for {
		if rev := x.rev.Load(); rev != closed && x.checks.close(rev) {
			closed = rev
		}
		if rev, ok := x.checks.drained(); ok {
			a.acked.Store(rev)
			a.changed.send()
			if real := x.real.Load(); real != told { // mere beats are acknowledged with the next beat
				told = min(rev, real)
				a.write()
			}
			continue
		}
		select {
		case <-x.applied:
		case <-x.checks.fell:
		case <-s.ctx.Done():
			return
		}
	}
}

func (a *acks) write() {
	select {
	case a.dirty <- struct{}{}:
	default:
	}
}

// JoinReplica makes this process a live replica of role ("authz"): under a
// lease it acknowledges each revision once applied with no older check still
// running. Close leaves.
func (s *Store) JoinReplica(ctx context.Context, role string) (leave func(), err error) {
	s.acks.join(role)
	var once sync.Once
	leave = func() { once.Do(func() { s.leave(role) }) }
	if !s.alone {
		// The beat that registers this replica must have come back before it
		// answers anything: it may know less than those who no longer wait.
		if err := s.register(ctx); err != nil {
			leave()
			return nil, err
		}
	}
	s.acks.changed.send()
	return leave, nil
}

func (s *Store) register(ctx context.Context) error {
	if err := s.sendBeat(ctx); err != nil {
		return err
	}
	beat, err := s.client.Get(ctx, keyBeat(s.cfg.Replica))
	if err != nil {
		return err
	}
	if len(beat.Kvs) == 0 {
		return ErrConflict
	}
	return s.awaitOwn(ctx, beat.Kvs[0].ModRevision)
}

// awaitOwn returns once this process acknowledged rev.
func (s *Store) awaitOwn(ctx context.Context, rev int64) error {
	for {
		changed := s.acks.changed.wait()
		if s.acks.acked.Load() >= rev {
			return nil
		}
		if err := s.wait(ctx, changed, nil); err != nil {
			return err
		}
	}
}

func (a *acks) join(role string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.joined[role]++
}

// part returns whether this process is no longer of role.
func (a *acks) part(role string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.joined[role]--; a.joined[role] > 0 {
		return false
	}
	delete(a.joined, role)
	return true
}

func (a *acks) roles() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]string, 0, len(a.joined))
	for r := range a.joined {
		list = append(list, r)
	}
	slices.Sort(list)
	return list
}

func (s *Store) leave(role string) {
	if s.acks.part(role) && !s.alone {
		s.unregister(role)
	}
	s.acks.changed.send()
}

// leaveAll leaves every role and gives up the lease, with all that is under it.
func (s *Store) leaveAll() {
	if s.alone || s.client == nil {
		return
	}
	for _, role := range s.acks.roles() {
		s.unregister(role)
	}
	if id := s.acks.lease.take(); id != 0 {
		ctx, cancel := context.WithTimeout(s.ctx, s.cfg.Staleness)
		defer cancel()
		if _, err := s.client.Revoke(ctx, id); err != nil {
			s.log.Warn("the lease could not be given up", "error", err)
		}
	}
}

// wait waits for a change, a time, the store's end or ctx's.
func (s *Store) wait(ctx context.Context, changed <-chan struct{}, timer <-chan time.Time) error {
	select {
	case <-changed:
	case <-timer:
	case <-s.ctx.Done():
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// AwaitReplicas returns once every live replica of role acknowledged rev; with no live replica it waits.
//
// A replica whose lease ran out is not waited for once the staleness bound has
// passed since: by then it denies everything.
func (s *Store) AwaitReplicas(ctx context.Context, role string, rev int64) error {
	if !s.alone {
		if err := s.refreshReplicas(ctx, role); err != nil {
			return err
		}
	}
	for {
		changed := s.acks.changed.wait()
		done, after := s.acks.reached(role, rev, s.cfg.Staleness)
		if done {
			return nil
		}
		if err := s.waitAtMost(ctx, changed, after); err != nil {
			return err
		}
	}
}

// waitAtMost is wait for at most d; 0: as long as it takes.
func (s *Store) waitAtMost(ctx context.Context, changed <-chan struct{}, d time.Duration) error {
	if d <= 0 {
		return s.wait(ctx, changed, nil)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	return s.wait(ctx, changed, t.C)
}

// reached reports whether all live replicas of role acknowledged rev. If only
// dead ones are waited for, after says how long.
func (a *acks) reached(role string, rev int64, bound time.Duration) (done bool, after time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	live, behind := 0, false
	if a.joined[role] > 0 {
		live++
		behind = a.acked.Load() < rev
	}
	for k, r := range a.replicas {
		switch {
		case k.role != role:
		case r.gone.IsZero():
			live++
			behind = behind || r.rev < rev
		case time.Since(r.gone) >= bound:
			delete(a.replicas, k)
		case r.rev < rev:
			after = max(after, bound-time.Since(r.gone))
		}
	}
	if behind || live == 0 {
		return false, 0
	}
	return after <= 0, after
}

// AckInstance records (coalesced, under this process's lease) the state of an
// instance that is connected to this process.
func (s *Store) AckInstance(ack InstanceAck) {
	a := s.acks
	a.mu.Lock()
	old, ok := a.local[ack.Instance]
	same := ok && old == ack
	a.local[ack.Instance] = ack
	a.mu.Unlock()
	if !same {
		a.changedInstance(ack.Instance)
	}
}

// DropInstance records that an instance is no longer connected to this process.
func (s *Store) DropInstance(i policy.Instance) {
	a := s.acks
	a.mu.Lock()
	delete(a.local, i)
	a.mu.Unlock()
	a.changedInstance(i)
}

func (a *acks) changedInstance(i policy.Instance) {
	a.changed.send()
	if a.alone {
		return
	}
	a.mu.Lock()
	a.unwritten[i] = struct{}{}
	a.mu.Unlock()
	a.write()
}

// Instances lists the connected instances, of all processes, in ID order.
func (s *Store) Instances() []InstanceAck {
	a := s.acks
	a.mu.Lock()
	defer a.mu.Unlock()
	list := make([]InstanceAck, 0, len(a.local)+len(a.remote))
	for _, ack := range a.local {
		list = append(list, ack)
	}
	for id, ack := range a.remote {
		if _, ok := a.local[id]; !ok {
			list = append(list, ack)
		}
	}
	slices.SortFunc(list, func(x, y InstanceAck) int { return strings.Compare(string(x.Instance), string(y.Instance)) })
	return list
}

// AwaitInstance returns once cond holds of the instance's state (ok=false: not connected).
func (s *Store) AwaitInstance(ctx context.Context, i policy.Instance, cond func(a InstanceAck, ok bool) bool) (InstanceAck, error) {
	for {
		changed := s.acks.changed.wait()
		if ack, ok := s.acks.instance(i); cond(ack, ok) {
			return ack, nil
		}
		if err := s.wait(ctx, changed, nil); err != nil {
			return InstanceAck{}, err
		}
	}
}

func (a *acks) instance(i policy.Instance) (InstanceAck, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ack, ok := a.local[i]; ok {
		return ack, true
	}
	ack, ok := a.remote[i]
	return ack, ok
}

package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/store/record"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	// beatsPerBound is how many beats are sent within the staleness bound, so
	// that one or two may be late.
	beatsPerBound = 4
	// keepSent bounds how many beats are remembered that have not come back;
	// older ones could prove nothing any more.
	keepSent = 256
	// forgetBeats is after how much store time the beat of a process that is
	// gone is removed.
	forgetBeats = time.Hour
)

// beater is what this process remembers of its own beats.
type beater struct {
	incarnation string
	broken      chan struct{} // holds one: a beat's answer was of another history

	mu       sync.Mutex
	sequence uint64
	sent     map[uint64]time.Time // monotonic
	// awaited is when the first of the beats was written that the watch owes us
	// by now; zero when it owes none.
	awaited time.Time
	others  map[string]beatOf // other processes' latest
}

func newBeater() beater {
	return beater{incarnation: rand.Text(), broken: make(chan struct{}, 1), sent: make(map[uint64]time.Time), others: make(map[string]beatOf)}
}

// send notes a beat as sent now.
func (b *beater) send() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sequence++
	b.sent[b.sequence] = time.Now()
	delete(b.sent, b.sequence-keepSent)
	return b.sequence
}

// written notes that the store has a beat, which is to come back by the watch.
func (b *beater) written() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.awaited.IsZero() && len(b.sent) > 0 {
		b.awaited = time.Now()
	}
}

// followed: a new watch owes nothing yet.
func (b *beater) followed() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.awaited = time.Time{}
}

// overdue reports whether the watch is silent: what was written so long ago
// has not come back.
func (b *beater) overdue(patience time.Duration) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return !b.awaited.IsZero() && time.Since(b.awaited) > patience
}

// returned tells when a beat that came back was sent, and forgets it and all
// before it.
func (b *beater) returned(sequence uint64) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	at, ok := b.sent[sequence]
	b.awaited = time.Time{}
	for n := range b.sent {
		if n <= sequence {
			delete(b.sent, n)
		}
	}
	return at, ok
}

// heard notes another process's beat.
func (b *beater) heard(other beatOf) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.others[other.replica] = other
}

// forgotten takes out those whose last beat was before then.
func (b *beater) forgotten(then time.Time) []beatOf {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []beatOf
	for name, o := range b.others {
		if o.GetTime() < then.UnixNano() {
			delete(b.others, name)
			list = append(list, o)
		}
	}
	return list
}

// forgetBeats removes the beats of processes that are long gone. Store time
// loses nothing: this process's own beat is later.
func (s *Store) forgetBeats() {
	for _, b := range s.beat.forgotten(s.Now().Add(-forgetBeats)) {
		key := keyBeat(b.replica)
		_, err := s.client.Txn(s.ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", b.mod)).
			Then(clientv3.OpDelete(key)).Commit()
		if err != nil {
			s.log.Warn("an old beat could not be removed", "error", err)
		}
	}
}

// beats writes beats until the store closes: on the tick, and at once when a
// check waits for one.
func (s *Store) beats() {
	interval := s.cfg.Staleness / beatsPerBound
	tick := time.NewTicker(interval)
	defer tick.Stop()
	healthy := true
	for {
		err := s.sendBeat(s.ctx)
		switch {
		case s.ctx.Err() != nil:
			return
		case err != nil && healthy:
			s.log.Error("a beat could not be written; checks are denied once the last one is too old", "error", err)
		case err == nil && !healthy:
			s.log.Info("beats are written again")
		}
		healthy = err == nil
		// Not more often than this, however many checks wait.
		if !pause(s.ctx, interval/16) {
			return
		}
		select {
		case <-tick.C:
		case <-s.index.fresh.kick:
		case <-s.ctx.Done():
			return
		}
	}
}

// sendBeat writes one beat. In the same write are this replica's
// acknowledgements, under its lease: a replica that is no longer counted as
// live cannot keep itself fresh either.
func (s *Store) sendBeat(ctx context.Context) error {
	// Half the bound: when one member hangs there is time for another beat.
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Staleness/2)
	defer cancel()
	acks, err := s.ackOps(ctx)
	if err != nil {
		return err
	}
	before := s.index.Revision()
	beat := encode(&record.Beat{
		Version: version, Incarnation: s.beat.incarnation, Sequence: s.beat.send(),
		Time: nanos(s.Now()), Roles: s.acks.roles(),
	})
	r, err := s.client.Txn(ctx).Then(append(acks, clientv3.OpPut(keyBeat(s.cfg.Replica), string(beat)))...).Commit()
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.acks.lease.lost()
	}
	if err != nil {
		return err
	}
	s.beat.written()
	return s.sameHistory(r.Header.ClusterId, r.Header.Revision, before)
}

// sameHistory checks the answer to a write: a write comes after everything
// that was seen before it, in the same cluster. Else the store was put back or
// exchanged under us.
func (s *Store) sameHistory(cluster uint64, rev, before int64) error {
	if known := s.index.state.Load().cluster; cluster == known && rev > before {
		return nil
	}
	s.index.fresh.broken.Store(true)
	select {
	case s.beat.broken <- struct{}{}:
	default:
	}
	return fmt.Errorf("%w: another cluster, or a step back to revision %d", errRebuild, rev)
}

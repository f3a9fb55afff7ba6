package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	pageSize  = 2000                   // keys read at once
	retryWait = 100 * time.Millisecond // after a failure to follow
)

// errRebuild: what is followed is not what was loaded.
var errRebuild = errors.New("the store's history changed")

// scan reads everything under prefix as of one revision, page by page, so
// that no answer is large. It returns the header of the first page.
func scan(ctx context.Context, kv clientv3.KV, prefix string, each func(*mvccpb.KeyValue)) (*pb.ResponseHeader, error) {
	var header *pb.ResponseHeader
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	opts := []clientv3.OpOption{clientv3.WithRange(end), clientv3.WithLimit(pageSize)}
	for {
		page, err := kv.Get(ctx, from, opts...)
		if err != nil {
			return nil, err
		}
		if header == nil {
			header = page.Header
			opts = append(opts, clientv3.WithRev(header.Revision))
		}
		for _, item := range page.Kvs {
			each(item)
		}
		if !page.More || len(page.Kvs) == 0 {
			return header, nil
		}
		from = string(page.Kvs[len(page.Kvs)-1].Key) + "\x00"
	}
}

// watch hands on every change under prefix after rev, in order, until ctx
// ends, the watch breaks or fn fails. Whoever calls it loads again then.
func watch(ctx context.Context, w clientv3.Watcher, prefix string, rev int64, interrupt <-chan struct{}, fn func(clientv3.WatchResponse) error) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	ch := w.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(rev+1))
	for {
		select {
		case r, ok := <-ch:
			if !ok {
				return fmt.Errorf("watch ended: %w", context.Cause(ctx))
			}
			if err := r.Err(); err != nil {
				return err
			}
			if err := fn(r); err != nil {
				return err
			}
		case <-interrupt:
			return errRebuild
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pause waits before another try; false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// followIndex is the one goroutine that changes the index. It reports its
// first load and goes on until the store closes.
func (s *Store) followIndex(loaded chan<- error) {
	for {
		st, rev, err := s.loadAfter(loaded == nil)
		if loaded != nil {
			loaded <- err
			if err != nil {
				return
			}
			loaded = nil
		}
		if err == nil {
			err = s.follow(st, rev)
		}
		if s.ctx.Err() != nil {
			return
		}
		s.log.Warn("the index is loaded anew", "error", err)
		if !errors.Is(err, errRebuild) && !pause(s.ctx, retryWait) {
			return
		}
	}
}

// loadAfter loads, but for the first time only once it is known that the store
// was not put back under us: else what was revoked since would be active again.
func (s *Store) loadAfter(seen bool) (*state, int64, error) {
	if seen {
		if err := s.begin(s.ctx, s.State()); err != nil {
			return nil, 0, fmt.Errorf("look at the store's history: %w", err)
		}
	}
	return s.load()
}

// load reads the whole prefix into a new state and shows it.
func (s *Store) load() (*state, int64, error) {
	st, d := newState(s.log), newDelta()
	header, err := scan(s.ctx, s.client.KV, prefixState, func(kv *mvccpb.KeyValue) {
		st.apply(d, &clientv3.Event{Type: mvccpb.PUT, Kv: kv})
	})
	if err != nil {
		return nil, 0, fmt.Errorf("load the index: %w", err)
	}
	st.cluster = header.ClusterId
	// Keys come in order, the catalog before the grants, so that every grant
	// is resolved under it already.
	d.rev, d.real, d.catalog = header.Revision, true, false
	st.publish(d)
	s.heard(d)
	s.index.fresh.expire()
	s.index.fresh.broken.Store(false)
	s.index.replace(st, d)
	return st, header.Revision, nil
}

// errSilent: the watch's member hangs, while others take what is written.
var errSilent = errors.New("the watch is silent")

// hurry ends ctx when the watch is silent, so that another is made, of which
// another member may be asked.
func (s *Store) hurry(ctx context.Context, cancel context.CancelCauseFunc) {
	for pause(ctx, s.cfg.Staleness/beatsPerBound) {
		if s.beat.overdue(s.cfg.Staleness / 2) {
			cancel(errSilent)
			return
		}
	}
}

// follow applies changes until the watch breaks or shows another history.
func (s *Store) follow(st *state, rev int64) error {
	if s.client.ActiveConnection() == nil { // in this process: it cannot hang alone
		return s.followBy(s.ctx, s.client.Watcher, st, rev)
	}
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	// A watcher of its own has a stream of its own: a new one need not be of the
	// member that hung.
	w := clientv3.NewWatcher(s.client)
	defer w.Close()
	s.beat.followed()
	s.spawn(func() { s.hurry(ctx, cancel) })
	err := s.followBy(ctx, w, st, rev)
	if ctx.Err() != nil && s.ctx.Err() == nil {
		return context.Cause(ctx)
	}
	return err
}

func (s *Store) followBy(ctx context.Context, w clientv3.Watcher, st *state, rev int64) error {
	return watch(ctx, w, prefixState, rev, s.beat.broken, func(r clientv3.WatchResponse) error {
		if r.Header.ClusterId != st.cluster || r.Header.Revision < s.index.Revision() {
			s.index.fresh.broken.Store(true)
			return errRebuild
		}
		if len(r.Events) > 0 {
			return s.applyAll(st, r.Events)
		}
		return nil
	})
}

// applyAll takes in the changes of one answer and shows them together.
// Freshness comes last: a beat proves what came before it.
func (s *Store) applyAll(st *state, events []*clientv3.Event) error {
	d := newDelta()
	for _, ev := range events {
		st.apply(d, ev)
	}
	if d.epoch {
		s.index.fresh.broken.Store(true)
		return errRebuild
	}
	st.publish(d)
	s.index.show(d)
	s.heard(d)
	return nil
}

// heard takes in the beats that came: store time from any, freshness from our own.
func (s *Store) heard(d *delta) {
	for _, b := range d.beats {
		s.clock.saw(b.GetTime())
		switch {
		case b.replica == s.cfg.Replica && b.GetIncarnation() == s.beat.incarnation:
			if sent, ok := s.beat.returned(b.GetSequence()); ok {
				s.index.fresh.proven(sent)
			}
		case b.replica != s.cfg.Replica && !s.alone:
			s.acks.beatOf(b)
			s.beat.heard(b)
		}
	}
}

package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

const (
	softPercent = 70 // of etcd's quota, for all but endings
	// keepHistory is how many revisions compaction leaves to those who follow;
	// compactEvery is how many more may gather first.
	keepHistory, compactEvery = 1000, 5000
)

var errFull = fmt.Errorf("%w: end and drop tasks, or raise the quota", ErrFull)

// space is what is known of how full etcd is. It is sampled in the
// background, so that no transaction asks for it.
type space struct {
	full atomic.Bool

	// The rest is watchSpace's.
	compacted   int64 // up to this revision
	shrunk      int64 // after the compaction up to this revision
	shrinkAfter time.Time
}

// room reports whether something new may be made.
func (s *Store) room() error {
	if s.space.full.Load() {
		return errFull
	}
	return nil
}

// watchSpace samples, and in an etcd of our own keeps it small.
func (s *Store) watchSpace() {
	for {
		if err := s.sampleSpace(s.ctx); err != nil && s.ctx.Err() == nil {
			s.log.Warn("how full the store is could not be found out", "error", err)
		}
		s.forgetBeats()
		if !pause(s.ctx, min(time.Second, s.cfg.Staleness/2)) {
			return
		}
	}
}

func (s *Store) sampleSpace(ctx context.Context) error {
	st, err := s.status(ctx)
	if err != nil {
		return err
	}
	quota := st.DbSizeQuota
	if quota <= 0 {
		quota = s.cfg.QuotaBytes
	}
	// What is in use counts, not the file: freed pages are used again.
	full := quota > 0 && st.DbSizeInUse > quota/100*softPercent
	if s.space.full.Swap(full) != full {
		s.log.Warn("the store passed its soft limit, one way or the other", "full", full, "in_use", st.DbSizeInUse, "quota", quota)
	}
	if !s.alone {
		return nil
	}
	return s.tidy(ctx, st.Header.Revision, full)
}

// tidy keeps an etcd of our own small, and brings it back from being out of
// space once enough was deleted.
func (s *Store) tidy(ctx context.Context, rev int64, full bool) error {
	alarms, err := s.client.AlarmList(ctx)
	if err != nil {
		return err
	}
	out := len(alarms.Alarms) > 0
	if out || full || rev-s.space.compacted > keepHistory+compactEvery {
		if err := s.compact(ctx, rev, out || full); err != nil {
			return err
		}
	}
	if !out {
		return nil
	}
	if err := s.shrink(); err != nil || full {
		return err
	}
	if _, err := s.client.AlarmDisarm(ctx, &clientv3.AlarmMember{}); err != nil {
		return err
	}
	s.log.Warn("the store was out of space and has space again")
	return nil
}

func (s *Store) status(ctx context.Context) (st *clientv3.StatusResponse, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Staleness)
	defer cancel()
	endpoints := s.client.Endpoints()
	if len(endpoints) == 0 {
		endpoints = []string{""} // in this process
	}
	for _, e := range endpoints {
		if st, err = s.client.Status(ctx, e); err == nil {
			return st, nil
		}
	}
	return nil, err
}

// compact drops old revisions of an etcd of our own; all of them when short.
// Who follows too far behind loads anew.
func (s *Store) compact(ctx context.Context, rev int64, short bool) error {
	to := rev - keepHistory
	if short {
		to = rev
	}
	if to <= s.space.compacted {
		return nil
	}
	if _, err := s.client.Compact(ctx, to, clientv3.WithCompactPhysical()); err != nil && !errors.Is(err, rpctypes.ErrCompacted) {
		return err
	}
	s.space.compacted = to
	return nil
}

// shrink gives freed pages back after a compaction. Without it an etcd that
// takes no writes does not even notice that pages were freed. Everything waits
// meanwhile, so the next one is kept well apart.
func (s *Store) shrink() error {
	sp := &s.space
	if sp.shrunk == sp.compacted || time.Now().Before(sp.shrinkAfter) {
		return nil
	}
	began := time.Now()
	if err := s.defrag(); err != nil {
		return err
	}
	sp.shrunk, sp.shrinkAfter = sp.compacted, time.Now().Add(10*time.Since(began))
	return nil
}

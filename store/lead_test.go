package store_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

func TestOneLeadsAndTheNextTakesOver(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func() [2]*store.Store{
		"in the same process":  func() [2]*store.Store { s := storetest.Open(t); return [2]*store.Store{s, s} },
		"in several processes": func() [2]*store.Store { c := storetest.Cluster(t, 2); return [2]*store.Store{c[0], c[1]} },
	} {
		t.Run(name, func(t *testing.T) {
			stores := open()
			var leading atomic.Int32
			leaders := make(chan int, 2)
			var running sync.WaitGroup
			var cancels [2]context.CancelFunc
			for i, s := range stores {
				var ctx context.Context
				ctx, cancels[i] = context.WithCancel(t.Context())
				running.Go(func() {
					s.Lead(ctx, "sweeper", func(ctx context.Context) {
						if leading.Add(1) > 1 {
							t.Error("two lead")
						}
						leaders <- i
						<-ctx.Done()
						leading.Add(-1)
					})
				})
			}
			first := <-leaders
			cancels[first]()
			if second := <-leaders; second == first {
				t.Error("one that was stopped leads again")
			}
			cancels[1-first]()
			running.Wait()
		})
	}
}

func TestALeaderThatLostTheElectionPublishesNothing(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 2)
	source, err := policy.EncodeSet(storetest.Set())
	if err != nil {
		t.Fatal(err)
	}
	changed := storetest.Set()
	changed.Capabilities = changed.Capabilities[:1]
	changed.Agents[0].Spec.Capabilities = changed.Agents[0].Spec.Capabilities[:1]
	other, err := policy.EncodeSet(changed)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var kept context.Context
	stores[0].Lead(ctx, "catalog", func(ctx context.Context) {
		if _, err := stores[0].PublishCatalog(ctx, source); err != nil {
			t.Errorf("while leading: %v", err)
		}
		kept = context.WithoutCancel(ctx)
		cancel()
	})
	if _, err := stores[0].PublishCatalog(kept, other); !errors.Is(err, store.ErrConflict) {
		t.Errorf("after leading: %v", err)
	}
	if _, err := stores[1].PublishCatalog(t.Context(), other); err != nil {
		t.Errorf("without an election: %v", err)
	}
}

package store

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/store/embedded"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// Errors. Callers test with errors.Is.
var (
	ErrNotFound = errors.New("not found")
	ErrConflict = errors.New("changed meanwhile") // a compare failed and retrying could not help
	ErrFull     = errors.New("store is past its soft limit; endings still work")
	ErrFloor    = errors.New("revoked meanwhile") // a floor rose above what the transaction built on
	ErrClosed   = errors.New("store is closed")
	ErrLocked   = errors.New("another process uses this data folder")
	// ErrRecord: a record is of a version that this program does not know, or
	// is no record at all. What it stands for is denied.
	ErrRecord = errors.New("record cannot be read")
)

// Config of a Store. One of Dir (embedded), Endpoints (cluster) and Client.
type Config struct {
	Dir       string // mode 0700; made when absent, refused when wider
	Endpoints []string
	TLS       *tls.Config
	// Client is a connection that somebody else opened and will close.
	Client     *clientv3.Client
	Replica    string           // this process, unique among live ones; made up when empty
	Staleness  time.Duration    // promise 8's bound; 2s when zero
	QuotaBytes int64            // etcd's quota; soft limit is 70% of it
	Wall       func() time.Time // nil: time.Now
	Log        *slog.Logger
	// Seen is the latest state that a record outside the store (the heads of
	// the audit log) vouches for. A store that is behind it, or is another
	// one, was restored: everything made in it before now ends at Open.
	Seen State
}

const defaultStaleness = 2 * time.Second

// Store is a connection to the shared state and this process's index of it.
type Store struct {
	cfg    Config
	log    *slog.Logger
	client *clientv3.Client
	// alone: etcd runs inside this process and nobody else can reach it, so
	// what other processes would need to be told need not be written.
	alone  bool
	defrag func() error // of an etcd of our own
	clock  *clock
	index  *Index
	acks   *acks
	beat   beater
	space  space
	local  elections
	turns  turns // of uses

	ctx    context.Context // ends with Close
	cancel context.CancelFunc
	mu     sync.Mutex // spawn's and Close's
	done   sync.WaitGroup
	once   sync.Once
	undo   []func() // in reverse order, after everything stopped
}

// Open starts (or connects to) etcd, takes the lock on Dir, loads the index and follows.
// It returns when the index is loaded and fresh.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s := newStore(cfg)
	if err := s.open(ctx); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func newStore(cfg Config) *Store {
	if cfg.Staleness <= 0 {
		cfg.Staleness = defaultStaleness
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Replica == "" {
		cfg.Replica = rand.Text()
	}
	s := &Store{cfg: cfg, log: cfg.Log, clock: newClock(cfg.Wall)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.index = newIndex(cfg.Staleness)
	s.acks = newAcks(s.index)
	s.beat = newBeater()
	return s
}

func (s *Store) open(ctx context.Context) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	if err := s.begin(ctx, s.cfg.Seen); err != nil {
		return err
	}
	loaded := make(chan error, 1)
	s.spawn(func() { s.followIndex(loaded) })
	s.spawn(s.acknowledge)
	select {
	case err := <-loaded:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	s.spawn(s.beats)
	s.spawn(s.watchSpace)
	if !s.alone {
		s.spawn(s.followAcks)
		s.spawn(s.flushAcks)
	}
	return s.index.fresh.await(ctx)
}

// connect opens the client, by one of the three ways.
func (s *Store) connect(ctx context.Context) (err error) {
	switch {
	case s.cfg.Client != nil:
		s.client = s.cfg.Client
	case s.cfg.Dir != "":
		return s.connectDir(ctx)
	case len(s.cfg.Endpoints) > 0:
		s.client, err = dial(s.cfg)
		if err == nil {
			s.undo = append(s.undo, func() { s.client.Close() })
		}
	default:
		err = errors.New("store: neither a data folder nor endpoints are given")
	}
	return err
}

func (s *Store) connectDir(ctx context.Context) error {
	unlock, err := lockDir(s.cfg.Dir)
	if err != nil {
		return err
	}
	s.undo = append(s.undo, unlock)
	server, err := embedded.Start(ctx, embedded.Config{Dir: etcdDir(s.cfg.Dir), QuotaBytes: s.cfg.QuotaBytes, Log: s.log})
	if err != nil {
		return err
	}
	s.undo = append(s.undo, server.Close)
	s.client, s.defrag = server.Client(), server.Defragment
	s.alone, s.acks.alone = true, true
	// Whoever holds the folder's lock is the only one: a lease that is there
	// already is of a process that died.
	return dropLeases(ctx, s.client)
}

// dial makes the client of a cluster. It does not wait for a connection: the
// first read does.
func dial(cfg Config) (*clientv3.Client, error) {
	return clientv3.New(clientv3.Config{
		Endpoints:            cfg.Endpoints,
		TLS:                  cfg.TLS,
		DialKeepAliveTime:    cfg.Staleness,
		DialKeepAliveTimeout: cfg.Staleness,
		MaxCallSendMsgSize:   embedded.MaxRequestBytes,
		Logger:               embedded.Logger(cfg.Log),
	})
}

// spawn runs fn until it returns; Close waits for it. Every fn ends with
// s.ctx. A closing store starts nothing more.
func (s *Store) spawn(fn func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() == nil {
		s.done.Go(fn)
	}
}

// stop ends what was spawned.
func (s *Store) stop() {
	s.mu.Lock()
	s.cancel()
	s.mu.Unlock()
	s.index.close()
	s.done.Wait()
}

// Close leaves: it ends what runs, gives up the lease, stops an embedded etcd
// and frees the data folder. Whoever waits in this package gets ErrClosed.
func (s *Store) Close() error {
	s.once.Do(func() {
		s.leaveAll()
		s.stop()
		for i := len(s.undo) - 1; i >= 0; i-- {
			s.undo[i]()
		}
	})
	return nil
}

// Index gives this process's view of the state.
func (s *Store) Index() *Index { return s.index }

// Now is max(wall clock, last store time + monotonic elapsed): it never goes back.
func (s *Store) Now() time.Time { return s.clock.now() }

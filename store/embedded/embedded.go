// Package embedded runs one etcd member inside this process, for this process
// alone: it opens no listener, neither TCP nor Unix, and is reached by function
// calls. Durability is etcd's own; nothing is relaxed.
package embedded

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/url"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/etcdserver/api/v3client"
)

// MaxRequestBytes bounds one write: a packed catalog with room to spare.
const MaxRequestBytes = 4 << 20

// DefaultQuotaBytes is etcd's own default.
const DefaultQuotaBytes = 2 << 30

const (
	member = "exeat"
	// nowhere is what etcd insists on for a member's address. It is never
	// dialled: there is no other member. RFC 6761 section 6.4 keeps the name
	// from ever resolving.
	nowhere = "http://etcd.exeat.invalid:1"
	// The only member waits for nobody: ticks are short so that it elects
	// itself at once. etcd wants five heartbeats or more to an election.
	tickMs, electionMs = 10, 50
)

// Config of a Server.
type Config struct {
	Dir        string // made with mode 0700 when absent; nobody else may use it meanwhile
	QuotaBytes int64  // DefaultQuotaBytes when zero
	Log        *slog.Logger
}

// Server is a running member.
type Server struct {
	etcd   *embed.Etcd
	client *clientv3.Client
	once   sync.Once
}

// Start returns when the member serves, or with ctx's error.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	etcd, err := embed.StartEtcd(config(cfg))
	if err != nil {
		return nil, fmt.Errorf("start etcd: %w", err)
	}
	select {
	case <-etcd.Server.ReadyNotify():
		return &Server{etcd: etcd, client: v3client.New(etcd.Server)}, nil
	case <-etcd.Server.StopNotify():
		etcd.Close()
		return nil, fmt.Errorf("start etcd: it stopped at once")
	case <-ctx.Done():
		etcd.Close()
		return nil, fmt.Errorf("start etcd: %w", ctx.Err())
	}
}

// Client calls the member within the process. Close of the Server closes it.
func (s *Server) Client() *clientv3.Client { return s.client }

// Stopped is closed when the member no longer serves, whoever stopped it.
func (s *Server) Stopped() <-chan struct{} { return s.etcd.Server.StopNotify() }

// Defragment gives freed pages back to the file system; calls wait meanwhile.
// (The in-process client's call of this name panics: it has no health to
// notify.)
func (s *Server) Defragment() error { return s.etcd.Server.Defragment() }

// Close stops the member; what was written is on disk already.
func (s *Server) Close() {
	s.once.Do(func() {
		s.client.Close()
		s.etcd.Close()
	})
}

func config(cfg Config) *embed.Config {
	c := embed.NewConfig()
	c.Name, c.Dir = member, cfg.Dir
	c.ListenPeerUrls, c.ListenClientUrls = nil, nil
	c.AdvertiseClientUrls = nil
	c.AdvertisePeerUrls = []url.URL{mustParse(nowhere)}
	c.InitialCluster = c.InitialClusterFromName(member)
	// The token goes into the cluster's ID, so that no two data folders have
	// the same; a folder that has one already keeps it.
	c.InitialClusterToken = rand.Text()
	c.EnableGRPCGateway = false
	c.AuthToken = ""
	c.TickMs, c.ElectionMs = tickMs, electionMs
	c.MaxRequestBytes = MaxRequestBytes
	c.QuotaBackendBytes = cfg.QuotaBytes
	if c.QuotaBackendBytes == 0 {
		c.QuotaBackendBytes = DefaultQuotaBytes
	}
	// The store compacts by itself, so etcd need not.
	c.AutoCompactionRetention = "0"
	c.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zapTo(cfg.Log))
	return c
}

func mustParse(s string) url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // a constant of this file
	}
	return *u
}

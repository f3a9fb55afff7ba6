package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Workload is this process's own identity as a Workload API tells it, renewed
// while it runs.
type Workload struct {
	want  ID // zero means the default one
	log   *slog.Logger
	stop  context.CancelFunc
	ended chan struct{}

	mu      sync.Mutex
	svid    *x509svid.SVID
	bundles *x509bundle.Set
	changed chan struct{}
	trouble error // why there is none yet
}

// OpenWorkload asks the Workload API at a socket (a path, or an address as in
// SPIFFE_ENDPOINT_SOCKET) and returns once it has an SVID, or with the reason
// when ctx ends first. want picks one of several; zero takes the default.
func OpenWorkload(ctx context.Context, socket string, want ID, log *slog.Logger) (*Workload, error) {
	if !strings.Contains(socket, ":") {
		socket = "unix://" + socket
	}
	if err := workloadapi.ValidateAddress(socket); err != nil {
		return nil, fmt.Errorf("identity: the Workload API's address: %w", err)
	}
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(socket), workloadapi.WithBackoffStrategy(patience{}))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &Workload{want: want, log: log, stop: stop, ended: make(chan struct{}), changed: make(chan struct{})}
	go w.watch(running, client)
	if err := w.first(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// watch goes on for as long as the process does: go-spiffe gives up on some
// answers, which a server that is just ending can give too.
func (w *Workload) watch(ctx context.Context, client *workloadapi.Client) {
	defer close(w.ended)
	defer func() { _ = client.Close() }() // nothing is lost with it
	for pause := (patience{}).NewBackoff(); ctx.Err() == nil; {
		// The watch tells its troubles to OnX509ContextWatchError.
		_ = client.WatchX509Context(ctx, w)
		select {
		case <-time.After(pause.Next()):
		case <-ctx.Done():
		}
	}
}

// patience is how long to wait between questions: an entry made a moment after
// the first one should not cost a second.
type patience struct{ next time.Duration }

// NewBackoff starts again at the shortest wait.
func (patience) NewBackoff() workloadapi.Backoff { return &patience{} }

// Next doubles the wait from 50 ms up to 5 s.
func (p *patience) Next() time.Duration {
	p.next = min(max(2*p.next, 50*time.Millisecond), 5*time.Second)
	return p.next
}

// Reset is called when an answer came.
func (p *patience) Reset() { p.next = 0 }

// first waits for the first SVID.
func (w *Workload) first(ctx context.Context) error {
	changed := w.Changed()
	if svid, _ := w.GetX509SVID(); svid != nil {
		return nil
	}
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		w.mu.Lock()
		defer w.mu.Unlock()
		return fmt.Errorf("identity: no SVID from the Workload API: %w", errors.Join(w.trouble, ctx.Err()))
	}
}

// Close ends the watch; the last SVID stays usable until it expires.
func (w *Workload) Close() {
	w.stop()
	<-w.ended
}

// OnX509ContextUpdate takes what the Workload API sent; it is for go-spiffe.
func (w *Workload) OnX509ContextUpdate(c *workloadapi.X509Context) {
	svid := w.pick(c.SVIDs)
	if svid == nil {
		w.OnX509ContextWatchError(errors.New("the Workload API holds no SVID with the wanted SPIFFE ID"))
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.svid, w.bundles, w.trouble = svid, c.Bundles, nil
	close(w.changed)
	w.changed = make(chan struct{})
	w.log.Debug("identity renewed", "spiffe_id", svid.ID.String(), "expires", svid.Certificates[0].NotAfter)
}

func (w *Workload) pick(svids []*x509svid.SVID) *x509svid.SVID {
	for _, svid := range svids {
		if w.want.IsZero() || svid.ID == w.want {
			return svid
		}
	}
	return nil
}

// OnX509ContextWatchError takes why there is nothing new; it is for go-spiffe,
// which asks again by itself.
func (w *Workload) OnX509ContextWatchError(err error) {
	if status.Code(err) == codes.Canceled {
		return // we are closing
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.trouble = err
	w.log.Warn("Workload API: no answer yet", "error", err)
}

// GetX509SVID gives the latest SVID.
func (w *Workload) GetX509SVID() (*x509svid.SVID, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.svid, nil
}

// GetX509BundleForTrustDomain gives the latest roots of a trust domain.
func (w *Workload) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bundles.GetX509BundleForTrustDomain(td)
}

// Changed gives a channel that is closed when the next SVID or bundle is there.
func (w *Workload) Changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

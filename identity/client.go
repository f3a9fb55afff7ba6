package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
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
	client, err := workloadapi.New(ctx, workloadapi.WithAddr(socket))
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	w := &Workload{want: want, log: log, stop: stop, ended: make(chan struct{}), changed: make(chan struct{})}
	go func() {
		defer close(w.ended)
		defer client.Close()
		if err := client.WatchX509Context(running, w); running.Err() == nil {
			w.OnX509ContextWatchError(err) // it gave up: the server refuses our way of asking
		}
	}()
	if err := w.first(ctx); err != nil {
		w.Close()
		return nil, err
	}
	return w, nil
}

// first waits for the first SVID.
func (w *Workload) first(ctx context.Context) error {
	for {
		w.mu.Lock()
		ready, changed, trouble := w.svid != nil, w.changed, w.trouble
		w.mu.Unlock()
		if ready {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("identity: no SVID from the Workload API: %w", errors.Join(trouble, ctx.Err()))
		}
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

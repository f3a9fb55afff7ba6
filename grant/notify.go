package grant

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// Headers of a notification. Its signature is "v1=" and, in hexadecimal,
// HMAC-SHA256 (RFC 2104) over the timestamp, a dot and the body, so that neither
// can be changed nor an old one be sent again for long.
const (
	HeaderEvent     = "Exeat-Event"     // the same for each attempt
	HeaderTimestamp = "Exeat-Timestamp" // seconds since the Unix epoch
	HeaderSignature = "Exeat-Signature"
)

// The forms of a notification.
const (
	NotifyJSON  = "json"
	NotifySlack = "slack" // an incoming webhook's message
)

// NotifierConfig says whom to tell of requests that people decide on.
type NotifierConfig struct {
	// URL gets each notification by POST: https, or http on loopback.
	URL string
	// Secret signs them; at least MinNotifySecret bytes.
	Secret []byte
	// Format is NotifyJSON when empty.
	Format string
	// Link is the API's URL, under which people read a request. What a link
	// leads to never decides anything.
	Link      string
	Transport http.RoundTripper // nil: the default
}

// MinNotifySecret is the fewest bytes of a secret.
const MinNotifySecret = 16

// Bounds of sending.
const (
	notifyTimeout  = 10 * time.Second
	notifyFirst    = time.Second
	notifyLongest  = 5 * time.Minute
	notifyIdle     = time.Minute
	headerTypeJSON = "application/json"
)

// Notifier tells a webhook of requests and of what became of them. What it has
// told is in the store, and what it has still to tell follows from the requests
// there: nothing is lost with a process, and each is told at least once.
type Notifier struct {
	*Service
	cfg    NotifierConfig
	told   *store.Bucket
	client *http.Client
}

// Check says what is wrong with c, without its secret.
func (c NotifierConfig) Check() error {
	u, err := url.Parse(c.URL)
	switch {
	case err != nil || u.Host == "":
		return errors.New("the URL to notify is none; want https://host/path")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return errors.New("the URL to notify is not https; want https, or http on loopback")
	case len(c.Secret) < MinNotifySecret:
		return fmt.Errorf("the secret that signs notifications has %d bytes; want at least %d random ones", len(c.Secret), MinNotifySecret)
	case c.Format != "" && c.Format != NotifyJSON && c.Format != NotifySlack:
		return errors.New("the format of notifications is json or slack")
	}
	return nil
}

// NewNotifier makes a Notifier over the service's requests; Run makes it work.
func NewNotifier(s *Service, cfg NotifierConfig) (*Notifier, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	return &Notifier{Service: s, cfg: cfg, told: s.store.Bucket("notified"), client: &http.Client{
		Transport: cfg.Transport, Timeout: notifyTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback() || host == "localhost"
}

// Run notifies while this process leads, until ctx ends.
func (n *Notifier) Run(ctx context.Context) error {
	n.store.Lead(ctx, "notifier", n.lead)
	return nil
}

// The events, which are the keys of what was told.
const (
	eventRequested = "requested"
	eventDecided   = "decided"
)

// What is kept of an event: that it is being told, before, and that it was. In
// between somebody may have heard of it, whatever came back.
const (
	beingTold byte = iota
	wasTold
)

// telling is what one leader knows. One goroutine owns it.
type telling struct {
	*Notifier
	told  map[string]bool // events by their ID; false: tried, and perhaps taken
	retry map[string]retry
}

// retry is when an event that could not be told is tried again.
type retry struct {
	at   time.Time
	wait time.Duration
}

func (n *Notifier) lead(ctx context.Context) {
	t := telling{Notifier: n, told: map[string]bool{}, retry: map[string]retry{}}
	entries, err := n.told.List(ctx, "")
	if err != nil {
		n.log.Warn("what was notified cannot be read; it may be told again", slog.Any("error", err))
	}
	for _, e := range entries {
		t.told[e.Key] = len(e.Value) == 1 && e.Value[0] == wasTold
	}
	n.follow(ctx, func(next <-chan store.Batch) {
		for {
			wait := time.NewTimer(t.round(ctx))
			select {
			case <-next:
			case <-wait.C:
			case <-ctx.Done():
				wait.Stop()
				return
			}
			wait.Stop()
		}
	})
}

// round tells what there is to tell, and says when to look again at the latest.
func (t *telling) round(ctx context.Context) time.Duration {
	there := map[string]bool{}
	var due []policy.ApprovalID
	t.index.EachApproval(func(id policy.ApprovalID, v *policy.TaskView) bool {
		for _, e := range []string{eventRequested, eventDecided} {
			there[eventID(id, e)] = true
		}
		if waits := t.waits(id, v); waits != t.told[eventID(id, eventRequested)] || !waits && !t.told[eventID(id, eventDecided)] {
			due = append(due, id)
		}
		return ctx.Err() == nil
	})
	for _, id := range due {
		t.one(ctx, id)
	}
	t.forget(ctx, there)
	return t.next()
}

func eventID(id policy.ApprovalID, event string) string { return string(id) + "." + event }

// one tells what is next to tell of a request. What nobody heard of while it
// waited needs no word about its end.
func (t *telling) one(ctx context.Context, id policy.ApprovalID) {
	asked, err := t.store.GetApproval(ctx, id)
	if err != nil {
		return // it is no more, or the next round finds it again
	}
	a := t.show(Caller{}, asked)
	event := eventDecided
	switch {
	case a.Pending():
		event = eventRequested
	case !t.heardOf(id):
		t.told[eventID(id, eventDecided)], t.told[eventID(id, eventRequested)] = true, true
		return
	default:
		t.told[eventID(id, eventRequested)] = true // it is too late to
	}
	key := eventID(id, event)
	r := t.retry[key]
	if t.told[key] || t.store.Now().Before(r.at) {
		return
	}
	t.keep(ctx, key, beingTold)
	if err := t.send(ctx, key, event, a); err != nil {
		r.wait = min(max(2*r.wait, notifyFirst), notifyLongest)
		r.at = t.store.Now().Add(r.wait)
		t.retry[key] = r
		t.log.Warn("a notification was not taken; it is tried again", slog.String("event", key), slog.Duration("after", r.wait), slog.Any("error", err))
		return
	}
	delete(t.retry, key)
	t.keep(ctx, key, wasTold)
}

// heardOf reports whether anybody may have heard of a request.
func (t *telling) heardOf(id policy.ApprovalID) bool {
	_, tried := t.told[eventID(id, eventRequested)]
	return tried
}

// keep notes how far an event is, here and in the store, for whoever leads next.
func (t *telling) keep(ctx context.Context, key string, how byte) {
	t.told[key] = how == wasTold
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settle)
	defer cancel()
	e, err := t.Notifier.told.Get(ctx, key)
	if err == nil || errors.Is(err, store.ErrNotFound) {
		_, err = t.Notifier.told.Swap(ctx, key, e.Revision, []byte{how})
	}
	if err != nil && !errors.Is(err, store.ErrConflict) {
		t.log.Warn("how far a notification is could not be kept; it may be told again", slog.String("event", key), slog.Any("error", err))
	}
}

// forget drops what is known of requests that are no more.
func (t *telling) forget(ctx context.Context, there map[string]bool) {
	for key := range t.told {
		if there[key] {
			continue
		}
		e, err := t.Notifier.told.Get(ctx, key)
		if err == nil {
			err = t.Notifier.told.Delete(ctx, key, e.Revision)
		}
		if err == nil || errors.Is(err, store.ErrNotFound) {
			delete(t.told, key)
			delete(t.retry, key)
		}
	}
}

// next is how long to wait when nothing happens.
func (t *telling) next() time.Duration {
	wait := notifyIdle
	for _, r := range t.retry {
		wait = min(wait, max(0, r.at.Sub(t.store.Now())))
	}
	return wait
}

// send posts one notification, signed.
func (t *telling) send(ctx context.Context, key, event string, a Approval) error {
	body, err := t.body(key, event, a)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	at := strconv.FormatInt(t.store.Now().Unix(), 10)
	req.Header.Set("Content-Type", headerTypeJSON)
	req.Header.Set(HeaderEvent, key)
	req.Header.Set(HeaderTimestamp, at)
	req.Header.Set(HeaderSignature, "v1="+signature(t.cfg.Secret, at, body))
	resp, err := t.client.Do(req)
	if err != nil {
		var failed *url.Error // it quotes the URL, which may hold a secret
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // so that the connection is used again
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fmt.Errorf("the webhook answered %d", resp.StatusCode)
	}
	return nil
}

func signature(secret []byte, at string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(at + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}

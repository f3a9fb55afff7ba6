package grant_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

var hookSecret = []byte("0123456789abcdef")

// hook is a webhook that keeps what it took.
type hook struct {
	*httptest.Server
	mu    sync.Mutex
	fails int // of the next requests
	seen  chan received
}

type received struct {
	header http.Header
	body   []byte
	status int
}

func newHook(t *testing.T) *hook {
	t.Helper()
	h := &hook{seen: make(chan received, 64)}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		h.mu.Lock()
		status := http.StatusNoContent
		if h.fails > 0 {
			h.fails--
			status = http.StatusBadGateway
		}
		h.mu.Unlock()
		w.WriteHeader(status)
		h.seen <- received{req.Header, body, status}
	}))
	t.Cleanup(h.Close)
	return h
}

// notifies runs a notifier until stop.
func (w *world) notifies(h *hook, format string) (stop func()) {
	w.t.Helper()
	n, err := grant.NewNotifier(w.Service, grant.NotifierConfig{URL: h.URL + "/hook", Secret: hookSecret, Format: format, Link: "https://exeat.example.org/"})
	w.must(err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = n.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	w.t.Cleanup(stop)
	return stop
}

// next takes the next one that was sent and checks its signature.
func (w *world) next(h *hook) (received, grant.Notification) {
	w.t.Helper()
	select {
	case r := <-h.seen:
		mac := hmac.New(sha256.New, hookSecret)
		mac.Write([]byte(r.header.Get("Exeat-Timestamp") + "."))
		mac.Write(r.body)
		if r.header.Get("Exeat-Signature") != "v1="+hex.EncodeToString(mac.Sum(nil)) || r.header.Get("Exeat-Event") == "" {
			w.t.Errorf("signed %v", r.header)
		}
		var n grant.Notification
		w.must(json.Unmarshal(r.body, &n))
		return r, n
	case <-time.After(long):
		w.t.Fatal("nobody was notified")
	}
	panic("unreachable")
}

func TestAWebhookIsToldUntilItTakesIt(t *testing.T) {
	t.Parallel()
	w, h := newApprovals(t), newHook(t)
	h.fails = 1
	stop := w.notifies(h, "")
	task, c := w.task(triage1, time.Hour)
	a, _ := w.asks(c, task, closeTicket)
	first, _ := w.next(h)
	second, n := w.next(h)
	if first.status != http.StatusBadGateway || second.header.Get("Exeat-Event") != first.header.Get("Exeat-Event") {
		t.Errorf("not tried again: %v", second.header)
	}
	if n.Type != "approval.requested" || n.Request.ID != string(a.ID) || n.Request.State != "pending" || n.Request.Agent != "triage" || n.Request.Count != 2 ||
		n.Request.Grants[0].Params["ticket"] != "OPS-42" || n.Request.Link != "https://exeat.example.org/v1/approvals/"+string(a.ID) {
		t.Errorf("got %+v", n)
	}
	w.votes(w.lead("ann"), a.ID)
	w.votes(w.lead("bob"), a.ID)
	if _, n := w.next(h); n.Type != "approval.decided" || n.Request.State != "approved" || !strings.Contains(n.Request.By, "ann") {
		t.Errorf("got %+v", n)
	}
	// Another leader tells nothing again, and goes on with what is new.
	b, _ := w.asks(c, task, closeTicket)
	if _, n := w.next(h); n.Request.ID != string(b.ID) {
		t.Errorf("got %+v", n)
	}
	stop()
	w.reopen()
	w.until(task.ID, func(v *policy.TaskView) bool { return v != nil })
	w.notifies(h, "")
	_, err := w.Refuse(w.ctx, w.lead("ann"), b.ID, grant.Ballot{Comment: "no"})
	w.must(err)
	_, n = w.next(h)
	if n.ID == string(b.ID)+".requested" { // stopped between telling and keeping that it was told
		_, n = w.next(h)
	}
	if n.Type != "approval.decided" || n.Request.ID != string(b.ID) || n.Request.State != "refused" {
		t.Errorf("after a restart: %+v", n)
	}
}

func TestASlackMessageIsNoMarkup(t *testing.T) {
	t.Parallel()
	w, h := newApprovals(t), newHook(t)
	w.notifies(h, grant.NotifySlack)
	task, c := w.task(triage1, time.Hour)
	a, _ := w.asks(c, task, closeTicket)
	r := <-h.seen
	var m map[string]string
	w.must(json.Unmarshal(r.body, &m))
	if len(m) != 1 || !strings.Contains(m["text"], `close-ticket ticket="OPS-42" (high risk)`) || !strings.Contains(m["text"], "exeat approvals show "+string(a.ID)) ||
		strings.ContainsAny(m["text"], "<>*`") {
		t.Errorf("got %v", m)
	}
}

func TestWhoIsNotNotified(t *testing.T) {
	t.Parallel()
	w := newApprovals(t)
	for name, cfg := range map[string]grant.NotifierConfig{
		"no URL":              {Secret: hookSecret},
		"plain HTTP":          {URL: "http://hooks.example.org/x", Secret: hookSecret},
		"no secret":           {URL: "https://hooks.example.org/x"},
		"a short secret":      {URL: "https://hooks.example.org/x", Secret: hookSecret[:15]},
		"a format of its own": {URL: "https://hooks.example.org/x", Secret: hookSecret, Format: "xml"},
	} {
		if _, err := grant.NewNotifier(w.Service, cfg); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

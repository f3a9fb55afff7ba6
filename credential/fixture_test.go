package credential

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
	"github.com/exeat-dev/exeat/store/storetest"
)

const issuerURL = "https://issuer.example.org"

var testKey = [32]byte{1, 2, 3}

// clock is moved by the test alone, on from the store's.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// events is a Recorder that tests look into.
type events struct {
	mu   sync.Mutex
	list []Event
}

func (e *events) RecordCredential(_ context.Context, x Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, x)
}

// of gives the events of a grant that are about an action.
func (e *events) of(grant policy.GrantID, action string) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(e.list), func(x Event) bool { return x.Grant.ID != grant || x.Action != action })
}

// world is a store with a catalog, an issuer and what managers need.
type world struct {
	t       *testing.T
	store   *store.Store
	clock   *clock
	issuer  *Issuer
	events  *events
	secrets string
	logs    *logs
}

// logs keeps what is logged.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newWorld(t *testing.T) *world {
	t.Helper()
	s := storetest.Open(t)
	return newWorldOn(t, s, storetest.Set())
}

func newWorldOn(t *testing.T, s *store.Store, set *v1alpha1.Set) *world {
	t.Helper()
	storetest.Publish(t, s, set)
	w := &world{t: t, store: s, clock: &clock{now: s.Now()}, events: &events{}, secrets: t.TempDir(), logs: &logs{}}
	var err error
	w.issuer, err = OpenIssuer(t.Context(), IssuerConfig{Store: s, Key: testKey, URL: issuerURL, Wall: w.clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// manager makes a manager; change may be nil.
func (w *world) manager(change func(*Config)) *Manager {
	w.t.Helper()
	cfg := Config{
		Store: w.store, Key: testKey, SecretsRoot: w.secrets, Issuer: w.issuer, Recorder: w.events,
		Wall: w.clock.Now, Log: slog.New(slog.NewJSONHandler(w.logs, nil)),
	}
	if change != nil {
		change(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

// run runs a manager until the function that it gives is called or the test ends.
func (w *world) run(m *Manager) (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			w.t.Error(err)
		}
	}()
	stop = func() { cancel(); <-done }
	w.t.Cleanup(stop)
	return stop
}

func (w *world) grant() policy.Grant {
	w.t.Helper()
	return storetest.Grant(w.t, w.store, storetest.Task(w.t, w.store), storetest.ReadTicket, "OPS-42")
}

// held is what the index has of a grant.
func (w *world) held(g policy.Grant) *policy.Held {
	v := w.store.Index().Task(g.Task)
	if v == nil {
		return nil
	}
	for _, h := range v.Held {
		if h.Grant.ID == g.ID {
			return h
		}
	}
	return nil
}

// minted waits until a grant has a credential.
func (w *world) minted(g policy.Grant) *policy.Held {
	w.t.Helper()
	w.until("a credential", func() bool { h := w.held(g); return h != nil && h.Credential != nil })
	return w.held(g)
}

// until waits for what others do.
func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !cond() {
		if time.Now().After(deadline) {
			w.t.Fatalf("%s never came; log:\n%s", what, w.logs)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// advance moves the clock and lets managers notice.
func (w *world) advance(d time.Duration, managers ...*Manager) {
	w.clock.advance(d)
	for _, m := range managers {
		m.jobs.kick()
	}
}

// end ends a grant early.
func (w *world) end(g policy.Grant) {
	w.t.Helper()
	at := w.clock.Now()
	_, rev, err := w.store.ChangeGrant(w.t.Context(), g.Task, g.ID, func(g policy.Grant) (policy.Grant, error) {
		var err error
		g.Life, err = policy.Transition(g.Life, policy.Event{Kind: policy.EventEnd, Reason: policy.EndCompleted}, at)
		return g, err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	storetest.Await(w.t, w.store, rev)
}

// ledgerIsEmpty reports whether nothing is out for a grant.
func (w *world) ledgerIsEmpty(g policy.Grant) bool {
	list, err := w.store.Bucket(ledgerBucket).List(w.t.Context(), string(g.ID))
	return err == nil && len(list) == 0
}

// token is the bearer token that goes on a call.
func (w *world) token(m *Manager, h *policy.Held) string {
	w.t.Helper()
	headers, err := m.Apply(w.t.Context(), h, &policy.Call{})
	if err != nil {
		w.t.Fatal(err)
	}
	if len(headers) != 1 || headers[0].Name != "authorization" {
		w.t.Fatalf("headers %v", headers)
	}
	return strings.TrimPrefix(headers[0].Value.Expose(), "Bearer ")
}

// claims verifies a token with a key set, as an upstream would, at a time.
func claims(t *testing.T, jwks []byte, token string, now time.Time) map[string]any {
	t.Helper()
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	got, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	header := got.Signatures[0].Header
	keys := set.Key(header.KeyID)
	if len(keys) != 1 {
		t.Fatalf("%d keys are published for kid %s", len(keys), header.KeyID)
	}
	if header.ExtraHeaders[jose.HeaderType] != "at+jwt" {
		t.Errorf("typ %v", header.ExtraHeaders[jose.HeaderType])
	}
	payload, err := got.Verify(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(payload, &c); err != nil {
		t.Fatal(err)
	}
	if exp := time.Unix(int64(c["exp"].(float64)), 0); !now.Before(exp) {
		t.Errorf("the token expired at %v, it is %v", exp, now)
	}
	return c
}

func (w *world) secret(name, text string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.secrets, name), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// withStatic makes the catalog's provider a static one.
func withStatic(s *v1alpha1.StaticProvider) *v1alpha1.Set {
	set := storetest.Set()
	set.Providers[0].Spec = v1alpha1.ProviderSpec{Static: s}
	for i := range set.Capabilities {
		set.Capabilities[i].Spec.Credential.Scope = nil // a standing secret has none
	}
	return set
}

// fake is a provider that tests control.
type fake struct {
	Provider
	mint   func(context.Context, Ask) (Minted, error)
	revoke func(context.Context, string) (Outcome, error)
}

func (f *fake) Narrow(r Request) (Ask, error) {
	return Ask{ID: newID(r.Now), Grant: r.Grant.ID, Scope: r.Scope, Expires: r.Grant.Until.Truncate(time.Second)}, nil
}

func (f *fake) Mint(ctx context.Context, a Ask) (Minted, error) { return f.mint(ctx, a) }

func (f *fake) Apply(_ context.Context, m Minted, _ *policy.Call) ([]Header, error) {
	return m.Headers, nil
}

func (f *fake) Revoke(ctx context.Context, handle string) (Outcome, error) {
	return f.revoke(ctx, handle)
}

func (f *fake) use(c *Config) {
	c.provider = func(*v1alpha1.Provider) (Provider, error) { return f, nil }
}

// good is what a fake mints when all is well.
func good(a Ask) Minted {
	return Minted{
		Handle: a.ID, Headers: []Header{{Name: "x-key", Value: policy.NewSecret("hunter2-" + a.ID)}},
		Granted: a.Scope, Expires: a.Expires,
	}
}

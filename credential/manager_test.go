package credential

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store/storetest"
)

func TestAGrantGetsATokenOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manager(nil)
	w.run(m)
	one, two := w.grant(), w.grant()
	h := w.minted(one)
	c := claims(t, w.issuer.JWKS(), w.token(m, h), w.clock.Now())
	for name, want := range map[string]any{
		"iss": issuerURL, "aud": "https://tickets.example.org", "sub": "spiffe://example.org/agent/triage",
		"client_id": "spiffe://example.org/agent/triage", "scope": "ticket:read", "ticket": "OPS-42",
		"exeat_grant": string(one.ID), "exeat_task": string(one.Task),
	} {
		if c[name] != want {
			t.Errorf("claim %s is %v, want %v", name, c[name], want)
		}
	}
	exp := time.Unix(int64(c["exp"].(float64)), 0)
	if exp.After(w.clock.Now().Add(time.Minute)) || exp.After(one.Until) {
		t.Errorf("exp %v is later than the TTL or the grant's end %v", exp, one.Until)
	}
	other := claims(t, w.issuer.JWKS(), w.token(m, w.minted(two)), w.clock.Now())
	if other["jti"] == c["jti"] || other["exeat_grant"] == c["exeat_grant"] {
		t.Errorf("the second grant got the first one's credential: %v", other["jti"])
	}
}

func TestReplicasMintOnce(t *testing.T) {
	t.Parallel()
	stores := storetest.Cluster(t, 2)
	w := newWorldOn(t, stores[0], storetest.Set())
	other := *w
	other.store = stores[1]
	a, b := w.manager(nil), other.manager(nil)
	w.run(a)
	w.run(b)
	grants := make([]policy.Grant, 30)
	task := storetest.Task(t, w.store)
	for i := range grants {
		grants[i] = storetest.Grant(t, w.store, task, storetest.ReadTicket, "OPS-42")
	}
	for _, g := range grants {
		h := w.minted(g)
		other.minted(g)
		if mine, theirs := w.token(a, h), w.token(b, other.held(g)); mine != theirs {
			t.Errorf("replicas use different credentials for %s", g.ID)
		}
		if n := len(w.events.of(g.ID, actionMinted)); n != 1 {
			t.Errorf("minted %d times for %s", n, g.ID)
		}
	}
}

// The token lives a minute, the grant five: it is replaced before it expires,
// there is no moment without one, and none outlives the grant.
func TestATokenIsRefreshedBeforeItExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manager(nil)
	w.run(m)
	g := w.grant()
	w.minted(g)
	seen := map[any]bool{}
	for ; w.clock.Now().Add(time.Second).Before(g.Until.Truncate(time.Second)); w.advance(5*time.Second, m) {
		w.settled(m, g)
		c := claims(t, w.issuer.JWKS(), w.token(m, w.held(g)), w.clock.Now())
		seen[c["jti"]] = true
		if exp := time.Unix(int64(c["exp"].(float64)), 0); exp.After(g.Until) {
			t.Fatalf("exp %v is after the grant's end %v", exp, g.Until)
		}
	}
	if n := len(w.events.of(g.ID, actionRefreshed)); n < 4 || n != len(seen)-1 {
		t.Errorf("%d refreshed, %d tokens seen", n, len(seen))
	}
	w.advance(5*time.Second, m)
	w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
	for _, e := range w.events.of(g.ID, actionRevoked) {
		if e.Outcome != string(ExpiresOnly) || e.Outlives != 0 {
			t.Errorf("at its own end: %s, outlives by %v", e.Outcome, e.Outlives)
		}
	}
}

// settled waits until a manager has nothing due for a grant.
func (w *world) settled(m *Manager, g policy.Grant) {
	w.t.Helper()
	w.until("nothing due", func() bool {
		m.jobs.mu.Lock()
		defer m.jobs.mu.Unlock()
		j, ok := m.jobs.jobs[g.ID]
		return ok && j.place != running && j.at.After(w.clock.Now())
	})
}

func TestAnExpiredTokenIsNotUsed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manager(nil)
	stop := w.run(m)
	h := w.minted(w.grant())
	w.token(m, h)
	stop() // nobody refreshes
	w.clock.advance(time.Minute)
	if _, err := m.Apply(t.Context(), h, &policy.Call{}); !errors.Is(err, ErrExpired) {
		t.Errorf("an expired token: %v", err)
	}
}

func TestApplyDeniesWhatItCannotKnow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manager(nil)
	stop := w.run(m)
	h := w.minted(w.grant())
	stop()
	other := w.manager(func(c *Config) { c.Key = [32]byte{9} })
	for name, c := range map[string]struct {
		m      *Manager
		change func(*policy.Held)
		want   error
	}{
		"no credential yet":   {m, func(h *policy.Held) { h.Credential = nil }, ErrNotMinted},
		"no resolution":       {m, func(h *policy.Held) { h.Resolved = nil }, ErrStale},
		"another scope":       {m, func(h *policy.Held) { r := *h.Resolved; r.Scope = nil; h.Resolved = &r }, ErrStale},
		"another agent":       {m, func(h *policy.Held) { h.Grant.Agent = "other"; r := *h.Resolved; h.Resolved = &r }, ErrStale},
		"another sealing key": {other, func(*policy.Held) {}, ErrSealed},
		"another grant's":     {m, func(h *policy.Held) { h.Grant.ID = "g_other" }, ErrSealed},
		"another grant's, said": {m, func(h *policy.Held) {
			h.Grant.ID = "g_other"
			c := *h.Credential
			c.Grant = "g_other"
			h.Credential = &c
		}, ErrSealed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := *h
			c.change(&x)
			if got, err := c.m.Apply(context.Background(), &x, &policy.Call{}); !errors.Is(err, c.want) || got != nil {
				t.Errorf("got %v %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestACapabilityWithoutProviderPutsNothingOnTheCall(t *testing.T) {
	t.Parallel()
	set := storetest.Set()
	set.Capabilities[0].Spec.Credential = nil
	w := newWorldOn(t, storetest.Open(t), set)
	m := w.manager(nil)
	g := w.grant()
	if got, err := m.Apply(t.Context(), w.held(g), &policy.Call{}); err != nil || len(got) != 0 {
		t.Errorf("got %v %v", got, err)
	}
}

// The catalog's provider changes while a grant is active: the old token is for
// another audience, and not used.
func TestAChangedProviderMintsAnew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manager(nil)
	w.run(m)
	g := w.grant()
	w.token(m, w.minted(g))
	set := storetest.Set()
	set.Providers[0].Spec.JWT.Audience = "https://other.example.org"
	storetest.Publish(t, w.store, set)
	if w.held(g).Resolved == nil {
		return // the digest covers the audience: the grant itself no longer serves
	}
	w.until("a token for the other audience", func() bool {
		headers, err := m.Apply(t.Context(), w.held(g), &policy.Call{})
		if err != nil {
			return false
		}
		token := strings.TrimPrefix(headers[0].Value.Expose(), "Bearer ")
		return claims(t, w.issuer.JWKS(), token, w.clock.Now())["aud"] == "https://other.example.org"
	})
}

func TestAnEarlyEndSaysByHowLongTheTokenOutlivesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	m := w.manager(nil)
	w.run(m)
	g := w.grant()
	w.minted(g)
	w.settled(m, g)
	w.clock.advance(20 * time.Second)
	w.end(g)
	w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
	got := w.events.of(g.ID, actionRevoked)
	if len(got) != 1 || got[0].Outcome != string(ExpiresOnly) || got[0].Outlives < 38*time.Second || got[0].Outlives > 40*time.Second {
		t.Errorf("revocations %+v, want one that outlives by 39 to 40 s", got)
	}
	if got[0].Grant.Agent != storetest.Agent || got[0].Grant.Capability != storetest.ReadTicket || got[0].Handle == "" {
		t.Errorf("the record does not say whose it was: %+v", got[0])
	}
	if _, ok := m.opened.Load(g.ID); ok {
		t.Error("the opened credential is still in memory")
	}
}

// hanging is a fake whose Mint waits, and tells of it.
func hanging() (f *fake, inside chan struct{}, release chan struct{}) {
	inside, release = make(chan struct{}, 8), make(chan struct{})
	f = &fake{
		mint: func(ctx context.Context, a Ask) (Minted, error) {
			inside <- struct{}{}
			select {
			case <-release:
				return good(a), nil
			case <-ctx.Done():
				return Minted{}, ctx.Err()
			}
		},
		revoke: func(context.Context, string) (Outcome, error) { return Revoked, nil },
	}
	return f, inside, release
}

func TestAGrantThatEndsDuringMintingGetsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	f, inside, release := hanging()
	m := w.manager(f.use)
	w.run(m)
	g := w.grant()
	<-inside
	w.end(g)
	close(release)
	w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
	if h := w.held(g); h != nil && h.Credential != nil {
		t.Error("the ended grant has a credential")
	}
	minted, revoked := w.events.of(g.ID, actionMinted), w.events.of(g.ID, actionRevoked)
	if len(minted) != 1 || len(revoked) != 1 || revoked[0].Outcome != string(Revoked) || revoked[0].Handle != minted[0].Handle {
		t.Errorf("minted %+v, revoked %+v", minted, revoked)
	}
}

// A process dies between intent and handle. Under its own name it goes on at
// once; another one does when the claim has run out.
func TestAnIntentWithoutHandleIsTriedAgain(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		second string
		wait   time.Duration
	}{
		"the same process, restarted": {"one", 0},
		"another replica":             {"two", claimTTL + time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			f, inside, _ := hanging()
			first := w.manager(func(c *Config) { f.use(c); c.Replica = "one" })
			stop := w.run(first)
			g := w.grant()
			<-inside
			stop()
			if w.ledgerIsEmpty(g) {
				t.Fatal("nothing was written before minting")
			}
			m := w.manager(func(cfg *Config) { cfg.Replica = c.second })
			w.run(m)
			w.advance(c.wait, m)
			w.token(m, w.minted(g))
		})
	}
}

func TestARevocationThatFailsIsTriedUntilItSucceeds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var tries atomic.Int32
	f := &fake{
		mint: func(_ context.Context, a Ask) (Minted, error) { return good(a), nil },
		revoke: func(context.Context, string) (Outcome, error) {
			if tries.Add(1) < 4 {
				return Failed, errors.New("upstream is down")
			}
			return Revoked, nil
		},
	}
	r := prometheus.NewRegistry()
	m := w.manager(func(c *Config) { f.use(c); c.Registry = r })
	w.run(m)
	g := w.grant()
	w.minted(g)
	w.end(g)
	w.until("the first failure", func() bool { return len(w.events.of(g.ID, actionRevoked)) == 1 })
	if n := gather(t, r)["exeat_revocations_pending"]; n != 1 {
		t.Errorf("%v revocations pending", n)
	}
	for n := int32(1); n < 4; n++ {
		w.settled(m, g)
		w.advance(backoffFirst<<n, m)
		w.until("another try", func() bool { return tries.Load() > n })
	}
	w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
	got := w.events.of(g.ID, actionRevoked)
	if len(got) != 2 || got[0].Outcome != string(Failed) || got[0].Detail == "" || got[1].Outcome != string(Revoked) {
		t.Errorf("recorded %+v, want one failure and the end", got)
	}
	w.until("none pending", func() bool { return gather(t, r)["exeat_revocations_pending"] == 0 })
}

func TestWiderThanAskedIsNoCredential(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*Minted){
		"more scope": func(m *Minted) {
			m.Granted = map[string]string{"scope": "ticket:read ticket:write", "ticket": "OPS-42"}
		},
		"another scope":  func(m *Minted) { m.Granted = map[string]string{"admin": "true"} },
		"no expiry":      func(m *Minted) { m.Expires = time.Time{} },
		"a later expiry": func(m *Minted) { m.Expires = m.Expires.Add(time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			var out atomic.Pointer[string]
			f := &fake{
				mint: func(_ context.Context, a Ask) (Minted, error) {
					got := good(a)
					change(&got)
					out.Store(&got.Handle)
					return got, nil
				},
				revoke: func(context.Context, string) (Outcome, error) { return Revoked, nil },
			}
			m := w.manager(f.use)
			w.run(m)
			g := w.grant()
			w.until("a failure", func() bool { return strings.Contains(m.Failure(g.ID), ErrWider.Error()) })
			if w.held(g).Credential != nil {
				t.Error("it was stored")
			}
			w.end(g)
			w.until("the ledger's end", func() bool { return w.ledgerIsEmpty(g) })
			got := w.events.of(g.ID, actionRevoked)
			if len(got) != 1 || got[0].Handle != *out.Load() {
				t.Errorf("it was not revoked: %+v", got)
			}
		})
	}
}

func TestAFailingProviderIsAskedRarely(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var asked atomic.Int32
	f := &fake{mint: func(context.Context, Ask) (Minted, error) {
		asked.Add(1)
		return Minted{}, errors.New("upstream is down")
	}}
	m := w.manager(f.use)
	w.run(m)
	grants := make([]policy.Grant, 5)
	for i := range grants {
		grants[i] = w.grant()
	}
	w.until("a failure", func() bool { return asked.Load() >= 1 })
	for _, g := range grants { // five grants, and time stands still
		w.settled(m, g)
	}
	if n := asked.Load(); n > 2 {
		t.Errorf("asked %d times at one moment", n)
	}
	before := asked.Load()
	w.until("another try", func() bool { w.advance(backoffLast, m); return asked.Load() > before })
}

func TestMetricsCountWhatIsOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := prometheus.NewRegistry()
	m := w.manager(func(c *Config) { c.Registry = r })
	w.run(m)
	g := w.grant()
	w.minted(g)
	got := gather(t, r)
	if got["exeat_credentials_minted_total/minted/tickets-jwt"] != 1 || got["exeat_credentials_out"] != 1 {
		t.Errorf("metrics %v", got)
	}
	w.end(g)
	w.until("none out", func() bool { return gather(t, r)["exeat_credentials_out"] == 0 })
}

// gather reads all counters and gauges, by name and label values.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := f.GetName()
			for _, l := range m.GetLabel() {
				name += "/" + l.GetValue()
			}
			out[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return out
}

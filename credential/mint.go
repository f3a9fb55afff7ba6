package credential

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/exeat-dev/exeat/credential/record"
	"github.com/exeat-dev/exeat/policy"
	"github.com/exeat-dev/exeat/store"
)

// supply makes sure that a live grant has a credential that lasts, and says
// when to look again.
func (m *Manager) supply(ctx context.Context, held *policy.Held, view *policy.TaskView, entry ledgerEntry, now time.Time) time.Time {
	end := firstOf(held.Grant.Until, view.Task.Until)
	if held.Resolved == nil || held.Resolved.Provider == nil {
		return end // what the grant asks for is not in the catalog in force
	}
	o, err := m.open(held)
	if err == nil {
		at := o.refreshAt(held.Grant.Until)
		if at.IsZero() || now.Before(at) {
			return firstOf(at, end)
		}
	}
	if errors.Is(err, ErrSealed) {
		// Another key is configured elsewhere; to mint again would only have
		// the replicas overwrite each other.
		m.cfg.Log.Error("credential cannot be opened: replicas have different sealing keys", "grant", string(held.Grant.ID))
		return end
	}
	if entry.claimed(m.cfg.Replica, now) {
		return firstOf(fromNanos(entry.GetClaimedUntil()), end)
	}
	name := held.Resolved.Provider.Name
	if at, ok := m.breakers.allow(name, now); !ok {
		return firstOf(at, end)
	}
	x := &minting{Manager: m, held: held, entry: entry, now: now, action: actionMinted}
	if held.Credential != nil {
		x.action = actionRefreshed
	}
	if o != nil {
		x.lasts = o.Expires
	}
	return firstOf(x.mint(ctx), end)
}

// minting is one credential on its way.
type minting struct {
	*Manager
	held     *policy.Held
	entry    ledgerEntry
	provider Provider
	ask      Ask
	issue    *record.Issue
	print    string
	action   string
	now      time.Time
	got      Minted    // what came back, wanted or not
	lasts    time.Time // until when the one at hand does; zero when there is none
}

// mint gets a credential for a grant: intent, minting, handle, and only then
// the credential itself, each refused by the store when someone else went on or
// the grant has ended meanwhile. It says when to look again.
// The order is what makes it safe to die at any point: before the intent nothing
// is out; after it the entry says that something may be; after the handle it can
// be revoked; only after all that is the credential anyone's to use.
func (x *minting) mint(ctx context.Context) time.Time {
	ctx, cancel := context.WithTimeout(ctx, mintTimeout)
	defer cancel()
	err := x.narrow()
	if errors.Is(err, errShort) || err == nil && !x.lasts.IsZero() && !x.ask.Expires.After(x.lasts) {
		return x.now.Truncate(time.Second).Add(time.Second) // no second more to be had yet
	}
	if err != nil {
		return x.failed(ctx, err, x.now.Add(backoffLast))
	}
	if err := x.intend(ctx); err != nil {
		return x.again(err)
	}
	provider := x.held.Resolved.Provider.Name
	began := time.Now()
	minted, err := x.provider.Mint(ctx, x.ask)
	x.metrics.mintTime.Observe(time.Since(began).Seconds())
	if err == nil {
		x.got = minted
		err = x.check(minted)
	}
	if err != nil {
		return x.failed(ctx, err, x.breakers.failed(provider, x.now))
	}
	x.breakers.worked(provider)
	if err := x.note(ctx, minted); err != nil {
		return x.again(err)
	}
	return x.store(ctx, minted)
}

// narrow says what will be asked for.
func (x *minting) narrow() (err error) {
	r := x.held.Resolved
	if x.provider, err = x.Manager.provider(r.Provider); err != nil {
		return err
	}
	subject := x.subject(x.held.Grant.Agent)
	if x.print, err = fingerprintOf(subject, r); err != nil {
		return err
	}
	x.ask, err = x.provider.Narrow(Request{Grant: x.held.Grant, Subject: subject, Scope: r.Scope, Now: x.now})
	return err
}

// intend writes the intent, which is also the claim.
func (x *minting) intend(ctx context.Context) (err error) {
	g := &x.held.Grant
	e := x.entry.clone()
	if e.Entry == nil {
		e.Entry = &record.Entry{
			Version: recordVersion, Grant: string(g.ID), Task: string(g.Task), Agent: g.Agent, Owner: g.Owner,
			Instance: string(g.Instance), Capability: g.Capability, Destination: g.Destination,
		}
	}
	e.Provider, e.Kind = x.held.Resolved.Provider.Name, kindOf(x.held.Resolved.Provider)
	e.Issues = slices.DeleteFunc(e.Issues, func(i *record.Issue) bool { return spent(i, x.now) })
	x.issue = &record.Issue{Id: x.ask.ID, Asked: nanos(x.now), Bound: nanos(x.ask.Expires)}
	e.Issues = append(e.Issues, x.issue)
	e.ClaimedBy, e.ClaimedUntil = x.cfg.Replica, nanos(x.now.Add(claimTTL))
	x.entry, err = x.ledger.put(ctx, e)
	return err
}

// spent reports whether an issue has expired: it no longer needs revoking.
func spent(i *record.Issue, now time.Time) bool {
	end := max(i.GetExpires(), i.GetBound())
	return end != 0 && end <= now.UnixNano()
}

// check compares what came back with what was asked. Wider is no credential.
func (x *minting) check(got Minted) error {
	if got.Injected {
		return nil
	}
	if got.Expires.IsZero() || got.Expires.After(x.held.Grant.Until) || got.Expires.After(x.ask.Expires) {
		return fmt.Errorf("%w: it lasts longer than asked", ErrWider)
	}
	for name, value := range got.Granted {
		if asked, ok := x.ask.Scope[name]; !ok || asked != value {
			return fmt.Errorf("%w: scope %s differs", ErrWider, name)
		}
	}
	if len(got.Headers) == 0 {
		return errors.New("the provider returned no credential")
	}
	return nil
}

// note writes the handle, by which it can be revoked whatever happens next.
func (x *minting) note(ctx context.Context, got Minted) (err error) {
	e := x.entry.clone()
	issue := e.Issues[len(e.Issues)-1]
	issue.Handle, issue.Expires, issue.Injected = got.Handle, nanos(got.Expires), got.Injected
	e.Failure = ""
	if x.entry, err = x.ledger.put(ctx, e); err != nil {
		return err
	}
	outcome := outcomeMinted
	if got.Injected {
		outcome = outcomeInjected
	}
	x.tell(ctx, outcome, got.Handle, got.Expires, "")
	return nil
}

// store seals the credential and writes it, if the grant still lives.
func (x *minting) store(ctx context.Context, got Minted) time.Time {
	if h, v := x.Manager.held(x.held.Grant.Task, x.held.Grant.ID); !live(h, v, x.Manager.now()) {
		return x.now.Add(retryShort) // ended meanwhile: settled at the next look
	}
	mat := &material{Minted: got, id: x.ask.ID, fingerprint: x.print, minted: x.now}
	sealed, err := mat.seal(x.sealer, x.held.Grant.ID)
	if err != nil {
		return x.again(err)
	}
	rev, err := x.cfg.Store.PutCredential(ctx, x.held.Grant.Task, policy.SealedCredential{Grant: x.held.Grant.ID, Sealed: sealed})
	if err != nil && !overtaken(err) { // such as a full store: say so where it can be seen
		return x.failed(ctx, err, x.breakers.failed(x.held.Resolved.Provider.Name, x.now))
	}
	if err != nil {
		return x.again(err)
	}
	return x.applied(ctx, rev)
}

// applied waits until this process sees what it stored: a look before that
// would mint once more.
func (x *minting) applied(ctx context.Context, rev int64) time.Time {
	var end time.Time
	_, err := x.index.AwaitTask(ctx, x.held.Grant.Task, func(v *policy.TaskView) bool {
		if v == nil {
			return true
		}
		for _, h := range v.Held {
			if h.Grant.ID == x.held.Grant.ID && h.Credential != nil && h.Credential.Revision >= rev {
				end = x.now
				return true
			}
		}
		return x.index.Revision() >= rev
	})
	if err != nil || end.IsZero() {
		return x.now.Add(retryShort)
	}
	return end // look once more at once: to know when to refresh
}

// again says when to try again after the store refused: at once when someone
// else went on or the grant has ended, else as after a failure.
func (x *minting) again(err error) time.Time {
	if overtaken(err) {
		return x.now.Add(retryShort)
	}
	x.cfg.Log.Warn("credential not stored", "grant", string(x.held.Grant.ID), "error", err.Error())
	return x.breakers.failed(x.held.Resolved.Provider.Name, x.now)
}

// overtaken reports whether a transaction failed because things went on.
func overtaken(err error) bool {
	return errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrFloor) || errors.Is(err, store.ErrNotFound)
}

// failed notes why there is no credential, where it can be seen; the next try
// is at the time given. Unless its error says otherwise nothing was minted.
func (x *minting) failed(ctx context.Context, cause error, at time.Time) time.Time {
	name := x.held.Resolved.Provider.Name
	text := fmt.Sprintf("provider %s: %v", name, cause)
	x.metrics.minted.WithLabelValues(name, outcomeFailed).Inc()
	first := x.entry.GetFailure() != text
	if !first && x.issue == nil {
		return at // all is noted already
	}
	if x.issue == nil && x.intend(ctx) != nil { // it failed before there was an intent
		return at
	}
	e := x.entry.clone()
	switch last := len(e.Issues) - 1; {
	case x.got.Handle != "": // it is out, though not wanted: revoked at the end
		e.Issues[last].Handle, e.Issues[last].Expires = x.got.Handle, nanos(x.got.Expires)
	case !errors.Is(cause, ErrUnknown):
		e.Issues = e.Issues[:last]
	}
	e.Failure, e.ClaimedBy, e.ClaimedUntil = text, "", 0
	if _, err := x.ledger.put(ctx, e); err != nil {
		return at
	}
	if first { // once per cause, not once per try
		x.cfg.Log.Error("credential not minted", "grant", string(x.held.Grant.ID), "provider", name, "error", text)
		x.record(ctx, x.event(outcomeFailed, "", time.Time{}, text))
	}
	return at
}

// tell counts and records what came of it.
func (x *minting) tell(ctx context.Context, outcome, handle string, expires time.Time, detail string) {
	x.metrics.minted.WithLabelValues(x.held.Resolved.Provider.Name, outcome).Inc()
	x.record(ctx, x.event(outcome, handle, expires, detail))
}

// event is the record of this minting.
func (x *minting) event(outcome, handle string, expires time.Time, detail string) Event {
	return Event{
		Time: x.now, Grant: x.held.Grant, Action: x.action, Provider: x.held.Resolved.Provider.Name,
		Outcome: outcome, Handle: handle, Expires: expires, Detail: detail,
	}
}

package credential

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/credential/record"
	"github.com/exeat-dev/exeat/policy"
)

// The kinds of provider, as the ledger names them.
const (
	kindJWT    = "jwt"
	kindStatic = "static"
)

// kindOf names a provider's kind; empty for one that this program does not know.
func kindOf(p *v1alpha1.Provider) string {
	switch {
	case p.Spec.JWT != nil:
		return kindJWT
	case p.Spec.Static != nil:
		return kindStatic
	default:
		return ""
	}
}

// revoker gives what can revoke an entry's credentials. The catalog's provider
// may have changed or gone; its kind has not.
func (m *Manager) revoker(e ledgerEntry) (Provider, error) {
	if cat := m.index.Catalog(); cat != nil {
		if p, ok := cat.Provider(e.GetProvider()); ok && kindOf(p) == e.GetKind() {
			return m.provider(p)
		}
	}
	switch e.GetKind() {
	case kindJWT:
		return &jwtProvider{}, nil
	case kindStatic:
		return &staticProvider{}, nil
	default:
		return m.provider(nil)
	}
}

// settle takes back all that is out for a grant that ended at end, records each
// outcome and removes the entry. It says when to look again; zero when done.
func (m *Manager) settle(ctx context.Context, entry ledgerEntry, end, now time.Time) time.Time {
	m.pending.add(policy.GrantID(entry.GetGrant()), now)
	if entry.claimed(m.cfg.Replica, now) {
		return fromNanos(entry.GetClaimedUntil())
	}
	if at := fromNanos(entry.GetRetryAt()); now.Before(at) {
		return at
	}
	ctx, cancel := context.WithTimeout(ctx, mintTimeout)
	defer cancel()
	// A replica that mints right now loses its claim here: its next write to
	// the entry fails, and what it minted is never stored.
	if len(entry.GetIssues()) > 0 {
		claim := entry.clone()
		claim.ClaimedBy, claim.ClaimedUntil = m.cfg.Replica, nanos(now.Add(claimTTL))
		var err error
		if entry, err = m.ledger.put(ctx, claim); err != nil {
			return now.Add(retryShort)
		}
	}
	left, tries := m.revokeAll(ctx, entry, end, now)
	if len(left) > 0 {
		return m.keepTrying(ctx, entry, left, tries, now)
	}
	if err := m.ledger.remove(ctx, entry); err != nil {
		return now.Add(retryShort)
	}
	m.pending.remove(policy.GrantID(entry.GetGrant()))
	return time.Time{}
}

// revokeAll revokes an entry's credentials and gives those that are still out.
func (m *Manager) revokeAll(ctx context.Context, entry ledgerEntry, end, now time.Time) (left []*record.Issue, tries uint32) {
	p, err := m.revoker(entry)
	for _, i := range entry.clone().GetIssues() {
		outcome := Failed
		if err == nil {
			began := time.Now()
			outcome, err = p.Revoke(ctx, i.GetHandle())
			m.metrics.revokeTime.Observe(time.Since(began).Seconds())
		}
		if err != nil {
			outcome = Failed
		}
		if outcome == Failed && spent(i, now) {
			outcome = ExpiresOnly // it could not be revoked in time, and is dead now
		}
		if outcome != Failed || i.GetTries() == 0 { // a failure is told once
			m.revoked(ctx, entry, i, outcome, end, err)
		}
		if outcome == Failed {
			i.Tries++
			tries = max(tries, i.GetTries())
			left = append(left, i)
		}
	}
	return left, tries
}

// keepTrying writes what is still out and says when to try again.
func (m *Manager) keepTrying(ctx context.Context, entry ledgerEntry, left []*record.Issue, tries uint32, now time.Time) time.Time {
	e := entry.clone()
	e.Issues = left
	at := now.Add(backoff(int(tries)))
	e.ClaimedBy, e.ClaimedUntil, e.RetryAt = "", 0, nanos(at)
	if _, err := m.ledger.put(ctx, e); err != nil {
		return now.Add(retryShort)
	}
	return at
}

// revoked records one outcome and by how long the credential outlives its grant.
func (m *Manager) revoked(ctx context.Context, e ledgerEntry, i *record.Issue, outcome Outcome, end time.Time, err error) {
	expires := fromNanos(i.GetExpires())
	if expires.IsZero() {
		expires = fromNanos(i.GetBound())
	}
	event := Event{
		Time: m.now(), Action: actionRevoked, Provider: e.GetProvider(), Outcome: string(outcome),
		Handle: i.GetHandle(), Expires: expires, Grant: grantOf(e),
	}
	switch {
	case err != nil:
		event.Detail = err.Error()
	case outcome == Unsupported:
		event.Detail = "a standing secret was put on the calls; it works on after the grant"
	case i.GetHandle() == "":
		event.Detail = "it is not known whether it was minted"
	}
	if outcome == ExpiresOnly || outcome == Failed {
		event.Outlives = max(0, expires.Sub(end))
	}
	m.metrics.revoked.WithLabelValues(e.GetProvider(), string(outcome)).Inc()
	m.record(ctx, event)
}

// grantOf gives what the ledger knows of a grant.
func grantOf(e ledgerEntry) policy.Grant {
	return policy.Grant{
		ID: policy.GrantID(e.GetGrant()), Task: policy.TaskID(e.GetTask()), Agent: e.GetAgent(),
		Owner: slices.Clone(e.GetOwner()), Instance: policy.Instance(e.GetInstance()),
		Capability: e.GetCapability(), Destination: e.GetDestination(),
	}
}

// pending holds the grants that ended and whose credentials are still out.
type pending struct {
	mu    sync.Mutex
	since map[policy.GrantID]time.Time
}

// add notes a grant, with the first time that it was seen to be over.
func (p *pending) add(id policy.GrantID, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.since[id]; !ok {
		p.since[id] = now
	}
}

func (p *pending) remove(id policy.GrantID) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.since, id)
}

func (p *pending) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.since)
}

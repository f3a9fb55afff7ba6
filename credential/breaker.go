package credential

import (
	"math/rand/v2"
	"sync"
	"time"
)

// Bounds of the wait between tries of a provider that fails.
const (
	backoffFirst = 250 * time.Millisecond
	backoffLast  = 30 * time.Second
)

// breakers hold, per provider, when it may be asked again. A provider that
// fails is asked by one grant at a time, more and more rarely, until it answers.
type breakers struct {
	mu   sync.Mutex
	open map[string]*breaker
}

type breaker struct {
	failures int
	until    time.Time // nobody asks before
}

// allow reports whether a provider may be asked at now, and else when. After a
// failure the one who is let through keeps others out for as long as it may take.
func (b *breakers) allow(provider string, now time.Time) (time.Time, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.open[provider]
	if !ok {
		return time.Time{}, true
	}
	if now.Before(s.until) {
		return s.until, false
	}
	s.until = now.Add(mintTimeout)
	return time.Time{}, true
}

// failed notes a failure and says when to try again.
func (b *breakers) failed(provider string, now time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.open[provider]
	if !ok {
		s = new(breaker)
		b.open[provider] = s
	}
	s.failures++
	s.until = now.Add(backoff(s.failures))
	return s.until
}

// worked closes the breaker.
func (b *breakers) worked(provider string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, provider)
}

// backoff after a number of failures in a row: it doubles, and is spread so
// that replicas do not come at once.
func backoff(failures int) time.Duration {
	d := backoffLast
	if failures < 8 {
		d = backoffFirst << (failures - 1)
	}
	d = min(d, backoffLast)
	return d - time.Duration(rand.Int64N(int64(d)/4))
}

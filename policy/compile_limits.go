package policy

import (
	"strconv"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// Bounds of limits. They keep the arithmetic far from its own.
const (
	maxUses      = 1_000_000_000
	maxRateCalls = 1_000_000
	minRatePer   = time.Second
	maxRatePer   = 24 * time.Hour
	maxBytes     = 1 << 50
)

// uses compiles the limits on use. Zero is refused rather than read as none
// or as any number.
func (p *capabilityCompiler) uses(l v1alpha1.Limits) {
	p.out.Limits.MaxUses = p.count("spec.limits.maxUses", l.MaxUses, maxUses)
	p.out.Limits.Bytes = p.count("spec.limits.bytes", l.Bytes, maxBytes)
	if l.Rate == nil {
		return
	}
	calls := p.count("spec.limits.rate.calls", &l.Rate.Calls, maxRateCalls)
	per := l.Rate.Per.Duration
	if per < minRatePer || per > maxRatePer {
		p.add("spec.limits.rate.per", "%v is out of range; want %v to %v", per, minRatePer, maxRatePer)
		return
	}
	p.out.Limits.Rate = Rate{Calls: calls, Per: per}
}

func (p *capabilityCompiler) count(field string, n *int64, most int64) int64 {
	switch {
	case n == nil:
		return 0
	case *n < 1 || *n > most:
		p.add(field, "%d is out of range; want 1 to %d", *n, most)
		return 0
	}
	return *n
}

// Uses gives how many calls a grant authorises that asks for some number; zero
// asks for the capability's own, and 0 comes back for any number. More than
// the capability allows is refused rather than cut: the agent must know what
// it has. The error is a *RequestError.
func (c *Capability) Uses(asked int64) (int64, error) {
	most := c.Limits.MaxUses
	switch {
	case asked == 0:
		return most, nil
	case asked < 0 || asked > maxUses:
		return 0, &RequestError{Code: CodeParamNotAllowed, Field: "maxUses", Message: "maxUses must be 1 to " + strconv.Itoa(maxUses)}
	case most > 0 && asked > most:
		return 0, &RequestError{Code: CodeTooManyUses, Field: "maxUses", Message: "maxUses may be at most " + strconv.FormatInt(most, 10)}
	}
	return asked, nil
}

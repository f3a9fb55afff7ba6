package policy

import (
	"slices"
	"time"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// Defaults and bounds of an approval.
const (
	defaultExpiry = 30 * time.Minute
	maxExpiry     = 24 * time.Hour
	maxApprovers  = 10
	// MaxStepUpAge bounds how long ago an approver may have authenticated.
	MaxStepUpAge = 12 * time.Hour
)

// approval compiles what people must say yes. High risk is never given without
// them, and without their having authenticated just now.
func (p *capabilityCompiler) approval(in *v1alpha1.Approval) {
	if in == nil {
		if p.out.Risk == v1alpha1.RiskHigh {
			p.add("spec.approval", "is missing: high risk needs approval with stepUp; want approval with groups and stepUp, or medium risk")
		}
		return
	}
	r := &ApprovalRule{Count: int(in.Count), Groups: [][]string{slices.Sorted(slices.Values(in.Groups))}, ExpiresAfter: defaultExpiry}
	if in.Count == 0 {
		r.Count = 1
	}
	if in.Count < 0 || in.Count > maxApprovers {
		p.add("spec.approval.count", "%d is out of range; want 1 to %d", in.Count, maxApprovers)
	}
	p.groups("spec.approval.groups", in.Groups, "people who may approve")
	if in.ExpiresAfter != nil {
		r.ExpiresAfter = in.ExpiresAfter.Duration
		if r.ExpiresAfter < time.Second || r.ExpiresAfter > maxExpiry {
			p.add("spec.approval.expiresAfter", "%v is out of range; want %v to %v", r.ExpiresAfter, time.Second, maxExpiry)
		}
	}
	r.StepUp = p.stepUp(in.StepUp)
	p.out.Approval = r
}

func (p *capabilityCompiler) stepUp(in *v1alpha1.StepUp) *StepUp {
	if in == nil {
		if p.out.Risk == v1alpha1.RiskHigh {
			p.add("spec.approval.stepUp", "is missing: high risk needs approvers who have authenticated just now; want stepUp: {maxAge: 5m}")
		}
		return nil
	}
	p.printable("spec.approval.stepUp.acr", in.ACR)
	if in.MaxAge == nil {
		p.add("spec.approval.stepUp.maxAge", "is missing; want how long ago an approver may have authenticated, such as 5m")
		return nil
	}
	if age := in.MaxAge.Duration; age < time.Second || age > MaxStepUpAge {
		p.add("spec.approval.stepUp.maxAge", "%v is out of range; want %v to %v", age, time.Second, MaxStepUpAge)
	}
	return &StepUp{MaxAge: in.MaxAge.Duration, ACR: in.ACR}
}

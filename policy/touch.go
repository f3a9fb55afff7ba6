package policy

import (
	"cmp"
	"slices"

	"github.com/exeat-dev/exeat/api/v1alpha1"
)

// Touch is a destination that a task called under a capability of some
// sensitivity. It is durable before the first such call is allowed.
type Touch struct {
	Destination string
	Sensitivity v1alpha1.Sensitivity
}

// TouchOf is what a call under the grant touches.
func TouchOf(h *Held) Touch {
	return Touch{h.Resolved.Destination.Name, h.Resolved.Capability.Sensitivity}
}

// Touched reports whether the task has the touch already.
func (v *TaskView) Touched(t Touch) bool { return v != nil && slices.Contains(v.Touches, t) }

// rank orders sensitivities; one that is not known is above all that are.
func rank(s v1alpha1.Sensitivity) int {
	known := []v1alpha1.Sensitivity{v1alpha1.SensitivityPublic, v1alpha1.SensitivityInternal,
		v1alpha1.SensitivityConfidential, v1alpha1.SensitivityRestricted}
	if i := slices.Index(known, s); i >= 0 {
		return i
	}
	return len(known)
}

func compareSensitivity(a, b v1alpha1.Sensitivity) int {
	return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a, b))
}

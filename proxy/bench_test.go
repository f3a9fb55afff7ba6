package proxy

import (
	"context"
	"testing"

	"github.com/exeat-dev/exeat/audit"
)

// BenchmarkCheckAllow is one allowed check, as far as this package goes: the
// record is dropped and the credential is at hand.
func BenchmarkCheckAllow(b *testing.B) {
	w := newWorld(b)
	s := w.server(b, sidecarOne)
	s.audit = dropped{}
	req := get("accept: */*", "user-agent: curl/8", "authorization: Bearer x", "content-type: application/json",
		"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			resp, err := s.Check(b.Context(), req)
			if err != nil || resp.GetOkResponse() == nil {
				b.Errorf("denied: %v, %v", resp, err)
				return
			}
		}
	})
}

// dropped is a Recorder for benchmarks.
type dropped struct{ Recorder }

func (dropped) Decision(context.Context, audit.Decision) error { return nil }

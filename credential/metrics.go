package credential

import "github.com/prometheus/client_golang/prometheus"

// metrics of the manager. Providers are the catalog's names; no label is ever a
// grant, agent or handle.
type metrics struct {
	minted, revoked      *prometheus.CounterVec
	mintTime, revokeTime prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, m *Manager) *metrics {
	x := &metrics{
		minted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_credentials_minted_total", Help: "Credentials minted or injected, and failures, by provider.",
		}, []string{"provider", "outcome"}),
		revoked: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_credentials_revoked_total", Help: "Outcomes of revocations, by provider.",
		}, []string{"provider", "outcome"}),
		mintTime:   latency("exeat_credential_mint_seconds", "How long providers take to mint."),
		revokeTime: latency("exeat_credential_revoke_seconds", "How long providers take to revoke."),
	}
	if r == nil {
		return x
	}
	r.MustRegister(x.minted, x.revoked, x.mintTime, x.revokeTime,
		// Every replica reports the same ledger: take the maximum, not the sum.
		gauge("exeat_credentials_out", "Credentials in the ledger that have not expired.", m.out),
		gauge("exeat_revocations_pending", "Grants that ended and whose credentials are still to be revoked.", m.pending.count))
	return x
}

// latency is a histogram in both forms, native and classic.
func latency(name, help string) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15),
		NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
	})
}

func gauge(name, help string, read func() int) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(read()) })
}

// out counts what the ledger says is out.
func (m *Manager) out() (n int) {
	now := m.now()
	for _, e := range m.ledger.all() {
		for _, i := range e.GetIssues() {
			if !spent(i, now) {
				n++
			}
		}
	}
	return n
}

package grant

import "github.com/prometheus/client_golang/prometheus"

// metrics are counted by names of the catalog and by closed enums alone.
type metrics struct {
	requests *prometheus.CounterVec
	endings  *prometheus.CounterVec
	ready    prometheus.Histogram
	enforced prometheus.Histogram
	uses     *prometheus.CounterVec
	useTime  prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	// From a millisecond to half a minute, in steps of about two.
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	latency := func(name, help string) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		})
	}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_grant_requests_total", Help: "Requests for grants by result: granted, or the code of the refusal.",
		}, []string{"result"}),
		endings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_endings_total", Help: "Endings of tasks and grants by reason.",
		}, []string{"of", "reason"}),
		ready: latency("exeat_grant_ready_seconds", "From a request to a grant that is ready."),
		uses: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_uses_total", Help: "Calls of limited grants, and calls with a name of their own, by what came of it: allowed, or the reason of the denial.",
		}, []string{"result"}),
		useTime:  latency("exeat_use_seconds", "How long it took to spend one use, or to find that there is none."),
		enforced: latency("exeat_ending_enforced_seconds", "From an ending that is accepted to one that is enforced."),
	}
	for _, c := range []prometheus.Collector{m.requests, m.endings, m.ready, m.enforced, m.uses, m.useTime} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

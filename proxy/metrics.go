package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/policy"
)

// metrics of the two services. Labels are names from the catalog and words of
// closed sets, never anything that a call brings along.
type metrics struct {
	decisions  *prometheus.CounterVec
	checks     prometheus.Histogram
	outcomes   *prometheus.CounterVec
	unrecorded prometheus.Counter
	refused    prometheus.Counter
}

func newMetrics(registry prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_decisions_total",
			Help: "Decisions on calls. Destination and capability are empty where the catalog has no name for it.",
		}, []string{"decision", "reason", "destination", "capability"}),
		checks: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:                        "exeat_check_duration_seconds",
			Help:                        "From a Check's arrival to its answer, the record's writing included.",
			Buckets:                     []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5},
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
		outcomes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_calls_ended_total",
			Help: "Calls that ended, as sidecars tell, by class of the response's status (none: no response).",
		}, []string{"status", "destination"}),
		unrecorded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "exeat_decisions_unrecorded_total",
			Help: "Denials whose record could not be written before the answer.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "exeat_checks_refused_total",
			Help: "Checks and access logs from a peer without a sidecar's certificate.",
		}),
	}
	return m, m.register(registry)
}

func (m *metrics) register(registry prometheus.Registerer) error {
	if registry == nil {
		return nil
	}
	for _, c := range []prometheus.Collector{m.decisions, m.checks, m.outcomes, m.unrecorded, m.refused} {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// decided counts a check's decision and how long it took.
func (m *metrics) decided(c *check, now time.Time) {
	word := "deny"
	if c.decision.Reason == policy.Allowed {
		word = "allow"
	}
	m.decisions.WithLabelValues(word, c.decision.Reason.String(), c.destination(), c.capability()).Inc()
	m.checks.Observe(max(0, now.Sub(c.began).Seconds()))
}

// ended counts a call's end.
func (m *metrics) ended(status int, destination string) {
	class := "none"
	if status >= 100 && status <= 599 {
		class = strconv.Itoa(status/100) + "xx"
	}
	m.outcomes.WithLabelValues(class, destination).Inc()
}

// turnedAway counts a denial that no Check came to.
func (m *metrics) turnedAway(destination string) {
	m.decisions.WithLabelValues("deny", policy.UnknownTask.String(), destination, "").Inc()
}

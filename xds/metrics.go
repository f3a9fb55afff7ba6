package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the control plane. No label is taken from an instance or a host.
type metrics struct {
	connected  prometheus.Gauge
	rejecting  prometheus.Gauge
	rejections *prometheus.CounterVec
	effect     *prometheus.HistogramVec
	build      prometheus.Histogram
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	buckets := []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10}
	m := &metrics{
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "exeat_sidecars_connected", Help: "Sidecar instances with a configuration stream to this process.",
		}),
		rejecting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "exeat_sidecars_rejecting", Help: "Connected sidecar instances that refuse a part of their configuration now.",
		}),
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_sidecar_rejections_total", Help: "Configuration that an Envoy refused, by resource type.",
		}, []string{"type"}),
		effect: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "exeat_sidecar_config_seconds",
			Help:    "From a change in the store to its effect in an Envoy: all grants in force (ready), all endings cut (cut).",
			Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}, []string{"effect"}),
		build: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "exeat_sidecar_build_seconds",
			Help:    "Computing one instance's configuration.",
			Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100,
		}),
	}
	for k := range kindCount {
		m.rejections.WithLabelValues(k.String())
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connected, m.rejecting, m.rejections, m.effect, m.build} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// turned counts an instance in or out of those that refuse something.
func (m *metrics) turned(was, is bool) {
	switch {
	case is && !was:
		m.rejecting.Inc()
	case was && !is:
		m.rejecting.Dec()
	}
}

func (m *metrics) observe(effect string, since time.Duration) {
	m.effect.WithLabelValues(effect).Observe(since.Seconds())
}

package xds

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the control plane. No label is taken from an instance or a host.
type metrics struct {
	connected  prometheus.Gauge
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
		rejections: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "exeat_sidecar_rejections_total", Help: "Configuration that an Envoy refused, by resource type.",
		}, []string{"type"}),
		effect: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "exeat_sidecar_config_seconds",
			Help:    "From a change in the store to its effect in an Envoy: all grants in force (ready), all endings cut (cut).",
			Buckets: buckets, NativeHistogramBucketFactor: 1.1,
		}, []string{"effect"}),
		build: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "exeat_sidecar_build_seconds",
			Help:    "Computing one instance's configuration.",
			Buckets: buckets, NativeHistogramBucketFactor: 1.1,
		}),
	}
	for k := range kindCount {
		m.rejections.WithLabelValues(k.String())
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.connected, m.rejections, m.effect, m.build} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) observe(effect string, since time.Duration) {
	m.effect.WithLabelValues(effect).Observe(since.Seconds())
}

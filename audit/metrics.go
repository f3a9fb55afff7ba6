package audit

import "github.com/prometheus/client_golang/prometheus"

// metrics of the log; no label ever holds what a caller says.
type metrics struct {
	records  *prometheus.CounterVec
	failures prometheus.Counter
	lost     prometheus.Counter
	byType   map[recordType]prometheus.Counter
}

// register makes the metrics; without a registry they count for nobody.
func (m *metrics) register(r prometheus.Registerer, l *Log) {
	m.records = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "exeat_audit_records_total", Help: "Records written to the audit log, by type.",
	}, []string{"type"})
	m.failures = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "exeat_audit_write_failures_total", Help: "Writes to the audit log or its head that failed.",
	})
	m.lost = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "exeat_audit_records_lost_total", Help: "Records dropped because the audit log was not writable for too long.",
	})
	m.byType = make(map[recordType]prometheus.Counter)
	for _, t := range recordTypes {
		m.byType[t] = m.records.WithLabelValues(string(t))
	}
	if r == nil {
		return
	}
	r.MustRegister(m.records, m.failures, m.lost, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "exeat_audit_available", Help: "1 while the audit log can be written; while it is 0 calls are denied.",
	}, func() float64 {
		if l.Available() {
			return 1
		}
		return 0
	}))
}

// written counts a record; a barrier has no type and is none.
func (m *metrics) written(t recordType) {
	if c, ok := m.byType[t]; ok {
		c.Inc()
	}
}

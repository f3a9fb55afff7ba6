package grant

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/exeat-dev/exeat/policy"
)

// waiting tells how many requests wait for people, and for how long. It looks
// when it is asked, so that it cannot be wrong for long.
type waiting struct {
	*Service
	count, oldest *prometheus.Desc
}

func newWaiting(s *Service) waiting {
	return waiting{
		Service: s,
		count:   prometheus.NewDesc("exeat_approvals_pending", "Requests that wait for people.", nil, nil),
		oldest:  prometheus.NewDesc("exeat_approvals_oldest_seconds", "How long the oldest request has waited for people; 0 without any.", nil, nil),
	}
}

// Describe implements prometheus.Collector.
func (w waiting) Describe(ch chan<- *prometheus.Desc) { ch <- w.count; ch <- w.oldest }

// Collect implements prometheus.Collector.
func (w waiting) Collect(ch chan<- prometheus.Metric) {
	n, now := 0, w.store.Now()
	var oldest time.Duration
	w.index.EachApproval(func(id policy.ApprovalID, v *policy.TaskView) bool {
		for _, h := range v.Held {
			if h.Grant.Approval == id && effective(h, now).State == policy.Pending {
				n++
				oldest = max(oldest, now.Sub(h.Grant.Began))
				break // one request, however many grants
			}
		}
		return true
	})
	ch <- prometheus.MustNewConstMetric(w.count, prometheus.GaugeValue, float64(n))
	ch <- prometheus.MustNewConstMetric(w.oldest, prometheus.GaugeValue, oldest.Seconds())
}

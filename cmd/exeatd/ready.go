package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

func newRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "exeat_build_info", Help: "Always 1; the label says which version runs.",
		ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	r.MustRegister(build)
	return r
}

// newStaleness shows how old the state is that calls are decided on.
func newStaleness(age func() time.Duration) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "exeat_state_staleness_seconds",
		Help: "Age of the state that calls are decided on; past the bound (2 s) they are denied as state_stale.",
	}, func() float64 { return age().Seconds() })
}

// health lists what must work for this process to answer. A catalog that
// cannot be loaded is told but does not fail: the last good one is in force.
func (p *plane) health() health {
	return health{gatherer: p.registry, checks: map[string]check{
		"store": func() (string, error) {
			if !p.store.Index().IsFresh() {
				return "", errors.New("state is stale; calls are denied until it is followed again")
			}
			return fmt.Sprintf(" (revision %d)", p.store.Index().Revision()), nil
		},
		"audit": func() (string, error) {
			if !p.audit.Available() {
				return "", errors.New("the audit log cannot be written; calls are denied until it can: look at the disk of " + p.settings.data)
			}
			return "", nil
		},
		"catalog": p.catalogHealth,
	}}
}

func (p *plane) catalogHealth() (string, error) {
	c := p.store.Index().Catalog()
	var err error
	if p.publisher != nil {
		err = p.publisher.State().Err()
	}
	switch {
	case c == nil && err != nil:
		return "", fmt.Errorf("none is in force, and %s cannot be loaded:\n%w", p.settings.catalog, err)
	case c == nil:
		return "", errors.New("none is in force yet")
	case err != nil:
		return fmt.Sprintf(" (revision %s; the folder has changed but cannot be loaded: %v)", c.Revision(), err), nil
	}
	return fmt.Sprintf(" (revision %s)", c.Revision()), nil
}

package proxy

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestDecisionsAreCountedByNamesFromTheCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.server(t, sidecarOne)
	for _, req := range []struct{ method, host, path, chain string }{
		{"GET", "tickets.example.org", "/v1/tickets/OPS-42", "tickets"},
		{"DELETE", "tickets.example.org", "/v1/tickets/OPS-42", "tickets"},
		{"GET", "secret-host.example.com", "/secret", "-"},
		{"GET", "wiki.example.org", "/", "-"},
	} {
		if _, err := s.Check(t.Context(), onChain(checkRequest(req.method, "https", req.host, req.path), req.chain)); err != nil {
			t.Fatal(err)
		}
	}
	for _, line := range []string{
		"deny|unknown_destination||", "deny|no_grant|wiki|",
		"allow|allowed|tickets|read-ticket", "deny|call_not_granted|tickets|read-ticket",
	} {
		if n := values(t, s.metrics.decisions, "decision", "reason", "destination", "capability")[line]; n != 1 {
			t.Errorf("%s: %v, want 1", line, n)
		}
	}
	if n := values(t, s.metrics.checks)[""]; n != 4 {
		t.Errorf("%v checks were timed, want 4", n)
	}
}

// values gives a collector's counts by the values of these labels, joined by |;
// that there are no others is checked.
func values(t *testing.T, c prometheus.Collector, labels ...string) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		byName := map[string]string{}
		for _, l := range m.GetLabel() {
			byName[l.GetName()] = l.GetValue()
		}
		if len(byName) != len(labels) {
			t.Fatalf("labels %v, want %v", byName, labels)
		}
		var line []string
		for _, l := range labels {
			line = append(line, byName[l])
		}
		got[strings.Join(line, "|")] = m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
	}
	return got
}

func TestEndedCallsAreCountedByClass(t *testing.T) {
	t.Parallel()
	m, err := newMetrics(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, status := range []int{200, 204, 101, 504, 0, 999, -1} {
		m.ended(status, "tickets")
	}
	for class, want := range map[string]float64{"1xx": 1, "2xx": 2, "5xx": 1, "none": 3} {
		if got := values(t, m.outcomes, "status", "destination")[class+"|tickets"]; got != want {
			t.Errorf("%s: %v, want %v", class, got, want)
		}
	}
}

func TestNewSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	if _, err := New(Config{}); err == nil {
		t.Error("a Server without parts")
	}
	registry := prometheus.NewRegistry()
	if _, err := newMetrics(registry); err != nil {
		t.Fatal(err)
	}
	if _, err := newMetrics(registry); err == nil {
		t.Error("metrics registered twice")
	}
}

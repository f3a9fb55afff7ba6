package main

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/encoding/protodelim"
)

// What dashboards and alerts are made of has these names and forms.
func TestMetricsThatOthersRelyOn(t *testing.T) {
	t.Parallel()
	r := startDev(t)
	families := scrape(t, r)
	for name, kind := range map[string]dto.MetricType{
		"exeat_check_duration_seconds":      dto.MetricType_HISTOGRAM,
		"exeat_credential_mint_seconds":     dto.MetricType_HISTOGRAM,
		"exeat_credential_revoke_seconds":   dto.MetricType_HISTOGRAM,
		"exeat_grant_ready_seconds":         dto.MetricType_HISTOGRAM,
		"exeat_ending_enforced_seconds":     dto.MetricType_HISTOGRAM,
		"exeat_state_staleness_seconds":     dto.MetricType_GAUGE,
		"exeat_sidecars_connected":          dto.MetricType_GAUGE,
		"exeat_sidecars_rejecting":          dto.MetricType_GAUGE,
		"exeat_sidecar_rejections_total":    dto.MetricType_COUNTER,
		"exeat_credentials_out":             dto.MetricType_GAUGE,
		"exeat_revocations_pending":         dto.MetricType_GAUGE,
		"exeat_audit_available":             dto.MetricType_GAUGE,
		"exeat_catalog_last_reload_success": dto.MetricType_GAUGE,
		"exeat_build_info":                  dto.MetricType_GAUGE,
	} {
		f := families[name]
		if f == nil || f.GetType() != kind {
			t.Errorf("%s is %v, want a %s; there are %v", name, f.GetType(), kind, slices.Sorted(maps.Keys(families)))
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		// Only native ones have a schema.
		if kind == dto.MetricType_HISTOGRAM && (len(h.GetBucket()) == 0 || h.Schema == nil) {
			t.Errorf("%s is not both classic and native: %v", name, h)
		}
	}
	if age := families["exeat_state_staleness_seconds"].GetMetric()[0].GetGauge().GetValue(); age <= 0 || age > 2 {
		t.Errorf("the state is %v seconds old", age)
	}
	if l := families["exeat_build_info"].GetMetric()[0].GetLabel(); len(l) != 1 || l[0].GetName() != "version" || l[0].GetValue() != version {
		t.Errorf("build info says %v", l)
	}
}

// scrape reads the metrics as a Prometheus with native histograms does.
func scrape(t *testing.T, r *running) map[string]*dto.MetricFamily {
	t.Helper()
	const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
	status, body := r.get("/metrics", protobuf)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	families, in := map[string]*dto.MetricFamily{}, strings.NewReader(body)
	for {
		var f dto.MetricFamily
		if err := protodelim.UnmarshalFrom(in, &f); errors.Is(err, io.EOF) {
			return families
		} else if err != nil {
			t.Fatal(err)
		}
		families[f.GetName()] = &f
	}
}

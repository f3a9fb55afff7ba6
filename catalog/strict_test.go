package catalog_test

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/exeat-dev/exeat/catalog"
)

func TestADocumentIsReadStrictlyAndAllErrorsComeAtOnce(t *testing.T) {
	t.Parallel()
	var got struct {
		Name  string           `json:"name"`
		Drain *metav1.Duration `json:"drain"`
		Store struct {
			Endpoints []string `json:"endpoints"`
		} `json:"store"`
	}
	d := catalog.ReadDocument("exeatd.yaml", []byte("nane: one\ndrain: 5\nstore:\n  endpoints: [a]\n"), &got)
	d.Fail("name", "is missing")                          // said already: it was misspelt
	d.Fail("store.endpoints[0]", "want an https URL")     // where it is written
	d.Fail("store.tls", "is missing: etcd speaks TLS")    // where it should be
	d.Fail("listen", "is missing: say where to be heard") // the document
	want := `exeatd.yaml:1: listen: is missing: say where to be heard
exeatd.yaml:1: nane: unknown field; did you mean name?
exeatd.yaml:2: drain: want a duration with its unit, such as 90s, 5m or 1h
exeatd.yaml:3: store.tls: is missing: etcd speaks TLS
exeatd.yaml:4: store.endpoints[0]: want an https URL`
	if d.Errors().Error() != want {
		t.Errorf("got\n%s\nwant\n%s", d.Errors(), want)
	}
	if !d.Has("store.endpoints") || d.Has("store.tls") || !d.Has("name") {
		t.Error("Has is wrong about what is there")
	}
	for _, text := range []string{"a: 1\n---\na: 2\n", "\xff", "a: [", "- 1"} {
		if errs := catalog.ReadDocument("f", []byte(text), &got).Errors(); len(errs) == 0 {
			t.Errorf("%q was read", text)
		}
	}
	if errs := catalog.ReadDocument("f", nil, &got).Errors(); len(errs) != 0 {
		t.Errorf("an empty document is %v", errs)
	}
}

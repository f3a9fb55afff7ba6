package grant_test

import (
	"encoding/json"
	"errors"
	"regexp"
	"testing"
	"time"

	"github.com/exeat-dev/exeat/grant"
	"github.com/exeat-dev/exeat/policy"
)

func TestCapabilitiesAreThoseOfTheAgent(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	got, err := w.Capabilities(w.as(triage1, policy.Secret{}), "")
	w.must(err)
	if got.Agent != "triage" || got.Catalog != w.store.Index().Catalog().Revision() || len(got.List) != 2 {
		t.Fatalf("got %+v", got)
	}
	read := got.List[1]
	if read.Name != "read-ticket" || read.TTL != 5*time.Minute || read.MaxTTL != 15*time.Minute || read.Destination != "tickets" {
		t.Errorf("got %+v", read)
	}
	var schema struct {
		Schema               string `json:"$schema"`
		Type                 string
		Required             []string
		AdditionalProperties *bool
		Properties           map[string]struct {
			Type, Pattern, Description string
			Enum                       []string
		}
	}
	w.must(json.Unmarshal(read.Schema, &schema))
	if schema.Type != "object" || schema.AdditionalProperties == nil || *schema.AdditionalProperties || len(schema.Required) != 2 {
		t.Errorf("got %s", read.Schema)
	}
	if enum := schema.Properties["project"].Enum; len(enum) != 2 || enum[0] != "OPS" || enum[1] != "SUP" {
		t.Errorf("project: %s", read.Schema)
	}
	pattern := regexp.MustCompile(schema.Properties["ticket"].Pattern)
	for value, fits := range map[string]bool{"OPS-42": true, "SUP-1": true, "DEV-1": false, "OPS-": false, "xOPS-1": false, "OPS-1\n": false} {
		if pattern.MatchString(value) != fits {
			t.Errorf("%q fits %s: %v", value, pattern, !fits)
		}
	}
}

func TestOneAgentsCapabilitiesAreNotAnothers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := w.as(writer, policy.Secret{})
	if _, err := w.Capabilities(c, "triage"); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("another's: %v", err)
	}
	if _, err := w.Capabilities(c, "nobody"); !errors.Is(err, grant.ErrNotFound) {
		t.Errorf("nobody's: %v", err)
	}
	if got, err := w.Capabilities(c, "writer"); err != nil || len(got.List) != 1 {
		t.Errorf("its own: %+v, %v", got, err)
	}
	if got, err := w.Capabilities(operator, "triage"); err != nil || len(got.List) != 2 {
		t.Errorf("by the operator: %+v, %v", got, err)
	}
	var invalid *grant.InvalidError
	if _, err := w.Capabilities(operator, "nobody"); !errors.As(err, &invalid) {
		t.Errorf("nobody's, by the operator: %v", err)
	}
	env, err := w.ClientEnv(operator, "triage")
	if err != nil || env["TICKETS_API_KEY"] != "exeat" {
		t.Errorf("client environment %v, %v", env, err)
	}
}

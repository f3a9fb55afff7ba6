package main

import (
	"reflect"
	"testing"
)

func TestGrantFlag(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]map[string]string{
		"read-ticket":                       {},
		"read-ticket:ticket=OPS-42":         {"ticket": "OPS-42"},
		"read-ticket:a=1,b=2":               {"a": "1", "b": "2"},
		`read-ticket:a=1\,5,b=c:\\d=e`:      {"a": "1,5", "b": `c:\d=e`},
		"read-ticket:query=label=urgent ok": {"query": "label=urgent ok"},
	} {
		g, err := parseGrant(text)
		if err != nil || g.capability != "read-ticket" || !reflect.DeepEqual(g.params, want) {
			t.Errorf("parseGrant(%q) = %+v, %v; want %v", text, g, err, want)
		}
	}
	for _, text := range []string{"", ":a=1", "read-ticket:", "read-ticket:a", "read-ticket:=1", "read-ticket:a=1,a=2", "read-ticket:a=1,"} {
		if g, err := parseGrant(text); err == nil {
			t.Errorf("parseGrant(%q) = %+v, want an error", text, g)
		}
	}
}

func TestFlagValueReadsBack(t *testing.T) {
	t.Parallel()
	got := flagValue("read-ticket", []string{"a", "b"}, map[string]string{"a": "1,5", "b": "it's"})
	if want := `'read-ticket:a=1\,5,b=it'\''s'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

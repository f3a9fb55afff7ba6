package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/exeat-dev/exeat/api/v1alpha1"
	"github.com/exeat-dev/exeat/policy"
)

func asRefused(err error, refused **policy.RequestError) bool { return errors.As(err, refused) }

// touchesOf reads destination=sensitivity.
func touchesOf(list []string) ([]policy.Touch, error) {
	var out []policy.Touch
	for _, text := range list {
		destination, sensitivity, ok := strings.Cut(text, "=")
		if !ok || destination == "" || sensitivity == "" {
			return nil, fmt.Errorf("--touched %q: want destination=sensitivity, such as tickets=restricted", text)
		}
		out = append(out, policy.Touch{Destination: destination, Sensitivity: v1alpha1.Sensitivity(sensitivity)})
	}
	return out, nil
}

// write says what would be decided.
func (t *tried) write(out io.Writer, form output) error {
	if form.json() {
		return json.NewEncoder(out).Encode(t)
	}
	if !t.Allowed {
		fmt.Fprintf(out, "denied: %s\n", t.Reason)
		return explainRule(out, t.Rule, t.Messages)
	}
	fmt.Fprintf(out, "allowed for %s\n", t.TTL)
	if t.MaxUses > 0 {
		fmt.Fprintf(out, "  for at most %d calls\n", t.MaxUses)
	}
	if a := t.Approval; a != nil {
		fmt.Fprintf(out, "  once %d people approve%s%s\n", a.Count, among(a.Groups), signInOf(a))
	}
	if t.Call != nil {
		fmt.Fprintf(out, "the call is denied: %s\n", t.Call.Reason)
		return explainRule(out, t.Call.Rule, t.Call.Messages)
	}
	return nil
}

func explainRule(out io.Writer, rule string, messages []string) error {
	if rule != "" {
		fmt.Fprintf(out, "  by %s\n", rule)
	}
	for _, m := range messages {
		fmt.Fprintf(out, "  %s\n", m)
	}
	return nil
}

func among(groups []string) string {
	if len(groups) == 0 {
		return ""
	}
	return " of " + strings.Join(groups, ", ")
}

func signInOf(a *triedDemand) string {
	var parts []string
	if a.MaxAge != "" {
		parts = append(parts, "within "+a.MaxAge)
	}
	if a.ACR != "" {
		parts = append(parts, "by "+a.ACR)
	}
	if len(parts) == 0 {
		return ""
	}
	return ", signed in " + strings.Join(parts, " and ")
}

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/exeat-dev/exeat/client"
)

// printReceipt says what a task held and did.
func printReceipt(w io.Writer, r client.Receipt) {
	fmt.Fprintf(w, "exeat: task %s %s%s\n", r.Task.ID, r.Task.EndReason, enforcement(r.Ending))
	if len(r.Grants) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "  GRANT\tPARAMETERS\tUSES\tFROM\tUNTIL\tENDED")
		for _, g := range r.Grants {
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\n", g.Capability, parameters(g.Params), uses(g), clock(g.RequestedAt), clock(g.Until), g.EndReason)
		}
		t.Flush()
	}
	if r.Calls.Total() == 0 {
		fmt.Fprintln(w, "  calls        no call came through the sidecar")
	} else {
		fmt.Fprintf(w, "  calls        %d allowed, %s\n", r.Calls.Allowed, denied(r.Calls.Denied))
	}
	fmt.Fprintf(w, "  credentials  %s\n", credentials(r.Credentials))
}

// enforcement says how long the ending took to hold everywhere.
func enforcement(e client.Ending) string {
	switch {
	case e.Enforced:
		return fmt.Sprintf(", enforced in %d ms", e.EnforcedAt.Sub(e.AcceptedAt).Milliseconds())
	case !e.BoundAt.IsZero():
		return fmt.Sprintf(", accepted; not confirmed (%s), holds by %s at the latest", e.Waiting, clock(e.BoundAt))
	default:
		return ""
	}
}

// uses says how many of a grant's calls were made, if somebody counts.
func uses(g client.Grant) string {
	switch {
	case g.MaxUses > 0:
		return fmt.Sprintf("%d/%d", g.Used, g.MaxUses)
	case g.Used > 0:
		return strconv.FormatInt(g.Used, 10)
	}
	return "-"
}

func clock(t time.Time) string { return t.Local().Format("15:04:05") }

func parameters(params map[string]string) string {
	if len(params) == 0 {
		return "-"
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(params)) {
		parts = append(parts, k+"="+params[k])
	}
	return strings.Join(parts, " ")
}

func denied(by map[string]int) string {
	total := 0
	var parts []string
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		total += by[reason]
		parts = append(parts, fmt.Sprintf("%s %d", reason, by[reason]))
	}
	if total == 0 {
		return "0 denied"
	}
	return fmt.Sprintf("%d denied (%s)", total, strings.Join(parts, ", "))
}

func credentials(c client.Credentials) string {
	parts := []string{fmt.Sprintf("%d minted", c.Minted)}
	for _, p := range []struct {
		n    int
		what string
	}{
		{c.Revoked, "revoked"}, {c.ExpiresOnly, "end by expiry"}, {c.Injected, "injected (standing secrets)"}, {c.Unsupported, "cannot be revoked"},
		{c.MintFailed, "could not be minted"}, {c.Failed, "could not be revoked"}, {c.Pending, "being revoked"},
	} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	return strings.Join(parts, ", ")
}

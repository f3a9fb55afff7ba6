package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/exeat-dev/exeat/client"
)

// approvalTable lists requests, one a line.
func approvalTable(list []client.Approval) string {
	if len(list) == 0 {
		return "nothing waits for people\n"
	}
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "REQUEST\tAGENT\tASKS FOR\tSTATE\tEXPIRES")
	for _, a := range list {
		expires := "-"
		if a.State == "pending" {
			expires = clock(a.ExpiresAt)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", a.ID, visible(a.Agent), asksFor(a), progress(a), expires)
	}
	t.Flush()
	return b.String()
}

func asksFor(a client.Approval) string {
	var parts []string
	for _, i := range a.Items {
		parts = append(parts, strings.TrimSpace(visible(i.Capability)+" "+pairs(i.Params)))
	}
	return strings.Join(parts, "; ")
}

func progress(a client.Approval) string {
	if a.State == "pending" {
		return fmt.Sprintf("pending, %d of %d", a.Given, a.Rule.Count)
	}
	return a.State
}

func pairs(m map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, visible(k)+"="+visible(m[k]))
	}
	return strings.Join(parts, " ")
}

// approvalText shows a request as a person decides on it: as a difference to
// what is held, and with everything that the agent wrote marked as such.
func approvalText(a client.Approval) string {
	var b strings.Builder
	fmt.Fprintf(&b, "request   %s  %s", a.ID, progress(a))
	if a.State == "pending" {
		fmt.Fprintf(&b, ", expires %s (in %s)", clock(a.ExpiresAt), time.Until(a.ExpiresAt).Round(time.Second))
	}
	fmt.Fprintf(&b, "\ndigest    %s\n", a.Digest)
	fmt.Fprintf(&b, "agent     %s, owned by %s\n", visible(a.Agent), visibleList(a.Owner))
	fmt.Fprintf(&b, "asked     %s by %s\n", a.RequestedAt.Local().Format(time.RFC3339), visible(a.RequestedBy))
	fmt.Fprintf(&b, "task      %s, type %s, started by %s\n", a.Task, visible(a.TaskType), visible(a.StartedBy))
	for _, w := range a.Why {
		fmt.Fprintf(&b, "why       %s\n", visible(w))
	}
	if a.Round > 1 {
		fmt.Fprintf(&b, "changed   the catalog gave it another meaning %d times; earlier approvals are void\n", a.Round-1)
	}
	claimed(&b, a.Claimed)
	for _, i := range a.Items {
		b.WriteString("\n")
		itemText(&b, i)
	}
	held(&b, a.Holds)
	decision(&b, a)
	return b.String()
}

// claimed shows the agent's own words behind bars, so that they cannot look
// like ours.
func claimed(b *strings.Builder, c client.Claimed) {
	if c.Purpose == "" && len(c.Context) == 0 {
		return
	}
	b.WriteString("claimed   by the agent itself, and not checked:\n")
	if c.Purpose != "" {
		b.WriteString(paragraph(c.Purpose, "  "))
	}
	for _, k := range slices.Sorted(maps.Keys(c.Context)) {
		b.WriteString(paragraph(k+" = "+c.Context[k], "  "))
	}
}

func itemText(b *strings.Builder, i client.ApprovalItem) {
	fmt.Fprintf(b, "%s\n", strings.TrimSpace("+ "+visible(i.Capability)+"  "+pairs(i.Params)))
	if i.Description != "" {
		fmt.Fprintf(b, "    %s\n", visible(i.Description))
	}
	uses := "any number of calls"
	if i.MaxUses > 0 {
		uses = fmt.Sprintf("at most %d calls", i.MaxUses)
	}
	fmt.Fprintf(b, "    %s risk, %s data, for %s, %s\n", visible(i.Risk), visible(i.Sensitivity), time.Duration(i.TTL), uses)
	for _, call := range i.Calls {
		sign := " "
		if slices.Contains(i.Adds, call) {
			sign = "+"
		}
		fmt.Fprintf(b, "%s   %s\n", sign, visible(call))
	}
	if i.Provider != "" {
		fmt.Fprintf(b, "    credential of %s: %s\n", visible(i.Provider), pairs(i.Scope))
	}
}

func held(b *strings.Builder, holds []client.ApprovalHeld) {
	if len(holds) == 0 {
		b.WriteString("\nheld      nothing else in this task\n")
		return
	}
	b.WriteString("\nheld      in this task already (calls without + are open by it):\n")
	for _, h := range holds {
		fmt.Fprintf(b, "    %s until %s\n", strings.TrimSpace(visible(h.Capability)+" "+pairs(h.Params)), clock(h.Until))
	}
}

func decision(b *strings.Builder, a client.Approval) {
	fmt.Fprintf(b, "needs     %d people of one issuer", a.Rule.Count)
	for _, g := range a.Rule.Groups {
		fmt.Fprintf(b, ", each in %s", visibleList(g))
	}
	if s := a.Rule.StepUp; s != nil {
		fmt.Fprintf(b, ", authenticated within %s", time.Duration(s.MaxAge))
		if s.ACR != "" {
			fmt.Fprintf(b, " by %s", visible(s.ACR))
		}
	}
	b.WriteString("\n")
	for _, v := range a.Votes {
		fmt.Fprintf(b, "approved  %s by %s (%s at %s)%s\n", v.At.Local().Format(time.RFC3339), visible(v.Name), visible(v.Subject), visible(v.Issuer), narrowing(v))
		if v.Comment != "" {
			b.WriteString(paragraph(v.Comment, "  "))
		}
	}
	if a.State != "pending" {
		fmt.Fprintf(b, "%-9s by %s\n", visible(a.State), visible(a.DecidedBy))
		if a.Comment != "" {
			b.WriteString(paragraph(a.Comment, "  "))
		}
	}
	if a.Mine != nil {
		fmt.Fprintf(b, "you       %s\n", visible(a.Mine.Detail))
	}
}

func narrowing(v client.ApprovalVote) string {
	text := ""
	if v.TTL > 0 {
		text += fmt.Sprintf(", for at most %s", time.Duration(v.TTL))
	}
	if v.MaxUses > 0 {
		text += fmt.Sprintf(", for at most %d calls", v.MaxUses)
	}
	return text
}

func visibleList(list []string) string {
	if len(list) == 0 {
		return "nobody"
	}
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = visible(s)
	}
	return strings.Join(out, " or ")
}

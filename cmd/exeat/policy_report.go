package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/exeat-dev/exeat/policy/rego/suite"
)

// writeReport is a run for people: a table of tests, then one of files.
func writeReport(out io.Writer, r suite.Report, verbose bool) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "RESULT\tTEST\tWHERE\tTIME")
	counts := map[suite.Result]int{}
	for _, t := range r.Tests {
		counts[t.Result]++
		fmt.Fprintf(w, "%s\t%s\t%s:%d\t%s\n", t.Result, t.Name, t.File, t.Line, t.Duration.Round(10*time.Microsecond))
	}
	w.Flush()
	for _, t := range r.Tests {
		writeDetail(out, t, verbose)
	}
	fmt.Fprintf(out, "\n%d passed, %d failed, %d errors, %d skipped\n\n",
		counts[suite.Pass], counts[suite.Fail], counts[suite.Err], counts[suite.Skip])
	fmt.Fprintln(w, "COVERAGE\tFILE\tLINES THAT NO TEST RAN")
	for _, f := range r.Files {
		fmt.Fprintf(w, "%.1f%%\t%s\t%s\n", f.Coverage, f.Name, ranges(f.Missing))
	}
	fmt.Fprintf(w, "%.1f%%\tall\t\n", r.Coverage)
	w.Flush()
}

// writeDetail says what is to know of a test besides its result.
func writeDetail(out io.Writer, t suite.Test, verbose bool) {
	if t.Detail != "" {
		fmt.Fprintf(out, "\n%s:%d: %s: %s\n", t.File, t.Line, t.Name, firstLine(t.Detail))
	}
	if t.Printed != "" && (verbose || t.Result != suite.Pass) {
		for line := range strings.Lines(t.Printed) {
			fmt.Fprintf(out, "    %s\n", strings.TrimRight(line, "\n"))
		}
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return strings.TrimSpace(line)
}

func ranges(lines []suite.Lines) string {
	var parts []string
	for _, l := range lines {
		if l.First == l.Last {
			parts = append(parts, fmt.Sprint(l.First))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", l.First, l.Last))
		}
	}
	return strings.Join(parts, ", ")
}

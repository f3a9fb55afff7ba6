package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/exeat-dev/exeat/examples/tickets/service"
	"github.com/exeat-dev/exeat/examples/tickets/world"
)

// answer is a call's status and the denial that came with it.
type answer struct {
	Status int
	Body   struct {
		Reason, Decision, Retry string
		Next                    []struct {
			Action, Capability string
			Params             map[string]string
		}
	}
}

// granted is the API's answer to a request for a grant.
type granted struct {
	Status int
	Took   float64 // ms
	Grant  struct {
		ID    string
		Ready bool
	}
}

// expired is how the calls went around a grant's end.
type expired struct {
	Allowed, Late, Early, Status int
	Reason                       string
	After                        float64 // ms from the grant's end to the denial
}

// cut is how an open stream ended with its task.
type cut struct {
	Status, Events int
	Open           bool
	EndToEOF       *float64 `json:"end_to_eof"` // ms
	EndToAnswer    float64  `json:"end_to_answer"`
	Receipt        struct {
		Ending struct{ Enforced bool }
	}
}

// agent tells the agent's part, checked against what the service saw.
func (s *story) agent(ctx context.Context, w *world.World, o *outcome) {
	seen := w.Tickets.Accesses()
	s.denied(o, "no-grant", "no_grant", "no grant: GET /v1/tickets/OPS-42 is denied (%s), and told what to ask for: %s")
	g := s.granted(o)
	s.called(o, seen, g)
	s.denied(o, "other", "call_not_granted", "another ticket, OPS-43, is denied (%s); it could ask for: %s")
	s.forged(o, seen)
	s.expired(o)
	s.cut(ctx, w, o)
}

func (s *story) denied(o *outcome, name, reason, text string) {
	a, err := step[answer](o, name)
	next := "nothing"
	if err == nil {
		if len(a.Body.Next) > 0 {
			next = fmt.Sprint(a.Body.Next[0].Capability, " ", a.Body.Next[0].Params)
		}
		err = errors.Join(
			want(a.Status == 403 && a.Body.Reason == reason, "got %d %s, want 403 %s", a.Status, a.Body.Reason, reason),
			want(strings.HasPrefix(a.Body.Decision, "d_"), "the denial names no decision"),
			want(strings.HasPrefix(next, "read-ticket"), "the denial does not say what to ask for"))
	}
	s.check(err, text, a.Body.Reason, next)
}

func (s *story) granted(o *outcome) granted {
	g, err := step[granted](o, "granted")
	if err == nil {
		err = want(g.Status == 201 && g.Grant.Ready, "got %d, ready %t", g.Status, g.Grant.Ready)
	}
	s.check(err, "grant of read-ticket for OPS-42 asked for and ready in %.0f ms: credential minted, sidecar configured", g.Took)
	return g
}

func (s *story) called(o *outcome, seen []service.Access, g granted) {
	a, err := step[answer](o, "call")
	var first service.Access
	if err == nil && len(seen) > 0 {
		first = seen[0]
	}
	if err == nil {
		err = errors.Join(want(a.Status == 200, "got %d", a.Status),
			want(first.Subject == "spiffe://example.org/agent/triage", "the service saw the subject %q", first.Subject),
			want(first.Grant == g.Grant.ID && first.JTI != "", "the service saw the grant %q, want %q", first.Grant, g.Grant.ID))
	}
	s.check(err, "the very next call succeeds: the service verified a token for %s, grant %s", first.Subject, first.Grant)
}

func (s *story) forged(o *outcome, seen []service.Access) {
	a, err := step[answer](o, "forged")
	if err == nil {
		err = want(a.Status == 200, "got %d", a.Status)
	}
	for _, x := range seen {
		err = errors.Join(err,
			want(x.Authorizations == 1 && x.Refused == "" && x.Subject != "", "the service saw %d Authorization headers: %s", x.Authorizations, x.Refused),
			want(!slices.Contains(x.Headers, "cookie"), "the service saw a cookie"))
	}
	s.check(err, "the agent's forged Authorization and Cookie never arrived: %d calls there, each with the minted token alone", len(seen))
}

func (s *story) expired(o *outcome) {
	e, err := step[expired](o, "expired")
	if err == nil {
		err = errors.Join(want(e.Allowed > 0, "no call was let out before the end"), want(e.Late == 0, "%d calls were let out after the end", e.Late),
			want(e.Early == 0, "%d calls were cut before the end", e.Early),
			want(e.Status == 403 && e.Reason == "grant_expired", "got %d %s, want 403 grant_expired", e.Status, e.Reason),
			want(e.After >= -5, "denied %.0f ms before the end", -e.After))
	}
	s.check(err, "a grant of 2 s expires: %d calls before its end, none after; the first one denied (%s) came %.0f ms after it", e.Allowed, e.Reason, e.After)
}

func (s *story) cut(ctx context.Context, w *world.World, o *outcome) {
	c, err := step[cut](o, "cut")
	ms := -1.0
	if err == nil {
		err = errors.Join(want(c.Events > 0, "no event came"), want(!c.Open && c.EndToEOF != nil, "the stream is still open"),
			want(c.Status == 200 && c.Receipt.Ending.Enforced, "the task's end is not enforced"))
		if c.EndToEOF != nil {
			ms = *c.EndToEOF
		}
	}
	_, waited := w.Tickets.Await(ctx, func(list []service.Access) bool {
		return !slices.ContainsFunc(list, func(a service.Access) bool { return strings.HasSuffix(a.Path, "/events") && a.Ended.IsZero() })
	})
	s.check(errors.Join(err, waited), "an open event stream (%d events) is cut at the end of the task: last byte %.0f ms after asking, enforced and answered in %.0f ms", c.Events, ms, c.EndToAnswer)
}

// record tells what is left: the receipt, the metrics, the audit log.
func (s *story) record(ctx context.Context, w *world.World, o *outcome) {
	s.check(errors.Join(want(o.code == 0, "exit code %d", o.code), want(strings.Contains(o.stderr, "read-ticket"), "no grant in:\n%s", o.stderr),
		want(strings.Contains(o.stderr, "denied (call_not_granted 1"), "no denials in:\n%s", o.stderr), want(!strings.Contains(o.stderr, "sk-standing-key"), "a key leaked")),
		"the agent started %d ms after exeat run; its receipt:\n%s", o.toRun.Milliseconds(), indent(o.stderr))
	metrics, err := scrape(ctx, w.Endpoints.Metrics+"/metrics")
	for _, reason := range []string{"no_grant", "call_not_granted", "grant_expired"} {
		err = errors.Join(err, want(strings.Contains(metrics, `reason="`+reason+`"`), "no denial with reason %s is counted", reason))
	}
	s.check(err, "the denial metrics at %s/metrics:\n%s", w.Endpoints.Metrics, indent(metrics))
	n, err := auditRecords(filepath.Join(w.Data, "audit"))
	s.check(errors.Join(err, want(n > 0, "it is empty")), "the audit log has %d records: %s", n, filepath.Join(w.Data, "audit"))
}

// scrape reads the decisions from the metrics.
func scrape(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var kept []string
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, `exeat_decisions_total{`) {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "\n"), err
}

// auditRecords counts the records, each of which must be JSON.
func auditRecords(dir string) (int, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.jsonl"))
	n := 0
	for _, name := range files {
		f, openErr := os.Open(name)
		if openErr != nil {
			return n, openErr
		}
		defer f.Close()
		lines := bufio.NewScanner(f)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if !json.Valid(lines.Bytes()) {
				return n, fmt.Errorf("%s: record %d is not JSON", name, n+1)
			}
			n++
		}
		err = errors.Join(err, lines.Err())
	}
	return n, err
}

func indent(text string) string {
	return "           | " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n           | ")
}

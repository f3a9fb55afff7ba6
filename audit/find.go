package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/exeat-dev/exeat/policy"
)

// ErrNoDecision: the log holds no such decision, or not any more.
var ErrNoDecision = errors.New("no such decision in the record")

// Recorded is a decision as the log holds it. Of the query there are only the
// names.
type Recorded struct {
	Decision
	// Outcome is how the call ended, once the sidecar has told; nil before.
	Outcome *Outcome
}

// findSlack is how far a record may lie from the time that its ID names: the
// check took that long, or the clock was moved.
const findSlack = time.Minute

// Find reads a decision by its ID, with its outcome if there is one. It reads
// the files from about the decision's time on, and is for people, not for the
// check path. The error is ErrNoDecision, ctx's, or one of reading.
func (l *Log) Find(ctx context.Context, id string) (Recorded, error) {
	at, err := timeOfDecision(id)
	if err != nil {
		return Recorded{}, ErrNoDecision
	}
	segs, err := segments(l.folder.dir)
	if err != nil {
		return Recorded{}, err
	}
	f := finder{id: []byte(`"decision":"` + id + `"`), reasons: reasonsByName()}
	for i, s := range segs {
		if i+1 < len(segs) && firstTime(segs[i+1].path).Before(at.Add(-findSlack)) {
			continue // all of it was written before
		}
		if err := f.scan(ctx, s.path); err != nil {
			return Recorded{}, err
		}
		if f.found != nil && f.found.Outcome != nil {
			break
		}
	}
	if f.found == nil {
		return Recorded{}, ErrNoDecision
	}
	return *f.found, nil
}

// timeOfDecision reads the time that a decision's ID holds.
func timeOfDecision(id string) (time.Time, error) {
	text, ok := strings.CutPrefix(id, "d_")
	if !ok {
		return time.Time{}, ErrNoDecision
	}
	u, err := ulid.ParseStrict(text)
	if err != nil {
		return time.Time{}, err
	}
	return u.Timestamp(), nil
}

// firstTime is when a file's first record was written; the zero time, which
// leaves nothing out, when that cannot be told.
func firstTime(path string) time.Time {
	src, err := os.Open(path)
	if err != nil {
		return time.Now()
	}
	defer src.Close()
	line, _, err := newLines(src).next()
	var p parsed
	if err != nil || json.Unmarshal(line, &p) != nil {
		return time.Now() // so that the file before it is read
	}
	return p.Time
}

// finder looks for one decision.
type finder struct {
	id      []byte
	reasons map[string]policy.Reason
	found   *Recorded
}

func (f *finder) scan(ctx context.Context, path string) error {
	src, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was taken away by retention meanwhile
	}
	if err != nil {
		return err
	}
	defer src.Close()
	for in := newLines(src); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		line, _, err := in.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if bytes.Contains(line, f.id) {
			f.take(line)
		}
	}
}

// take reads a line that speaks of the decision. What does not parse is left
// to Verify to complain of.
func (f *finder) take(line []byte) {
	var p parsed
	if json.Unmarshal(line, &p) != nil {
		return
	}
	switch {
	case p.Unmapped.Type == typeDecision && f.found == nil:
		d := p.decision()
		d.Reason = f.reasons[p.Unmapped.Reason]
		f.found = &Recorded{Decision: d}
	case p.Unmapped.Type == typeOutcome && f.found != nil:
		o := p.outcome()
		f.found.Outcome = &o
	}
}

func (p *parsed) subject() Subject {
	u := &p.Unmapped
	return Subject{Agent: u.Agent, Owner: u.Owner, Instance: u.Instance, Task: u.Task, Grant: u.Grant, Capability: u.Capability, Destination: u.Destination}
}

func (p *parsed) call() Call {
	r := &p.Request
	c := Call{Method: r.Method, Scheme: r.URL.Scheme, Host: r.URL.Host, Port: r.URL.Port, Path: r.URL.Path}
	for _, name := range p.Unmapped.Query {
		c.Query = append(c.Query, policy.QueryParam{Name: name})
	}
	return c
}

func (p *parsed) decision() Decision {
	u := &p.Unmapped
	return Decision{
		ID: u.Decision, Time: p.Time, Subject: p.subject(), Call: p.call(), Removed: u.Removed, Request: u.Request,
		Catalog: u.Catalog, Store: u.Store, Policy: u.Policy, Next: u.Next,
	}
}

func (p *parsed) outcome() Outcome {
	u := &p.Unmapped
	return Outcome{
		Time: p.Time, Decision: u.Decision, Subject: p.subject(), Call: p.call(), Request: u.Request, Status: u.Code,
		Details: u.Details, Flags: u.Flags, Sent: u.Sent, Received: u.Received, Duration: time.Duration(u.Duration) * time.Microsecond,
	}
}

// URL is the call's address without its query.
func (c Call) URL() string { return urlOf(&c) }

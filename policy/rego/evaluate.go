package rego

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // so that time zones are the same wherever a replica runs
	"unicode"
	"unicode/utf8"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// Bounds on one evaluation. A request is rare and may think longer; a call
// waits for its answer, and the sidecar does not wait for long.
const (
	IssueTimeout = time.Second
	CallTimeout  = 250 * time.Millisecond

	maxMessages = 16  // of one denial
	maxMessage  = 256 // bytes
)

// Verdict is a policy's answer. The zero Verdict denies.
type Verdict struct {
	Allowed bool
	// Rule that denied, such as exeat.call.deny, with the file and line where
	// an error names them; empty when allowed.
	Rule string
	// Messages say why, printable and bounded; none when no rule gave any.
	Messages []string
}

// query evaluates an entry's outputs, each to the list of its values: none
// when it is undefined.
type query struct {
	prepared rego.PreparedEvalQuery
	timeout  time.Duration
}

// prepare makes the query of all outputs.
func (e *entry) prepare(c *compiler) *query {
	timeout := IssueTimeout
	if e.pkg == packageCall {
		timeout = CallTimeout
	}
	q, err := newQuery(e.compiler, e.pkg, e.outputs, timeout)
	if err != nil {
		c.add(e.pkg, 1, "cannot be evaluated: %v", err)
	}
	return q
}

// newQuery asks for each output as a comprehension, which is empty where the
// output is undefined. A built-in function that fails is an error: in a deny
// rule, undefined would be a yes.
func newQuery(compiler *ast.Compiler, pkg string, outputs []string, timeout time.Duration) (*query, error) {
	parts := make([]string, len(outputs))
	for i, name := range outputs {
		parts[i] = fmt.Sprintf("%s = [x%d | x%d = data.%s.%s]", name, i, i, pkg, name)
	}
	if len(parts) == 0 { // the package decides nothing, and so denies
		parts = []string{"true"}
	}
	prepared, err := rego.New(rego.Query(strings.Join(parts, "; ")), rego.Compiler(compiler), rego.SetRegoVersion(ast.RegoV1),
		rego.Capabilities(Capabilities()), rego.StrictBuiltinErrors(true)).PrepareForEval(context.Background())
	if err != nil {
		return nil, err
	}
	return &query{prepared, timeout}, nil
}

// outputs are the values of each output by name; none for an undefined one.
type outputs map[string][]any

// run evaluates within the timeout.
func (q *query) run(ctx context.Context, input ast.Value, more ...rego.EvalOption) (outputs, error) {
	ctx, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	results, err := q.prepared.Eval(ctx, append(more, rego.EvalParsedInput(input))...)
	switch {
	case err != nil:
		return nil, err
	case ctx.Err() != nil: // ended just now: too late all the same
		return nil, ctx.Err()
	case len(results) != 1:
		return nil, fmt.Errorf("%d results", len(results))
	}
	out := make(outputs, len(results[0].Bindings))
	for name, value := range results[0].Bindings {
		list, ok := value.([]any)
		if !ok {
			return nil, fmt.Errorf("%s: a result of another type", name)
		}
		out[name] = list
	}
	return out, nil
}

// fault is the verdict on an evaluation that failed.
func (e *entry) fault(err error) Verdict {
	rule, what := e.pkg, "the policy failed"
	var failed *topdown.Error
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), topdown.IsCancel(err):
		what = "the policy took too long"
	case errors.As(err, &failed):
		what = faultWords(failed.Code)
		rule = e.ruleAt(failed.Location)
	}
	return Verdict{Rule: rule, Messages: []string{what}}
}

// faultWords leaves out the error's own text, which may hold values.
func faultWords(code string) string {
	switch code {
	case topdown.ConflictErr:
		return "rules of the policy contradict each other"
	case topdown.TypeErr:
		return "a value in the policy has the wrong type"
	case topdown.BuiltinErr:
		return "a function in the policy failed"
	}
	return "the policy failed"
}

// ruleAt names the rule that a place belongs to, and the place.
func (e *entry) ruleAt(at *ast.Location) string {
	if at == nil || e.compiler.Modules[at.File] == nil {
		return e.pkg
	}
	m := e.compiler.Modules[at.File]
	name, best := packageName(m), 0
	for _, rule := range m.Rules {
		if row := rule.Location.Row; row <= at.Row && row >= best {
			name, best = packageName(m)+"."+rule.Head.Ref().GroundPrefix().String(), row
		}
	}
	return fmt.Sprintf("%s (%s:%d)", name, at.File, at.Row)
}

// verdict reads allow and deny: the one must be true, the other be empty.
func (e *entry) verdict(out outputs) Verdict {
	if messages, ok := set(out["deny"]); !ok {
		return Verdict{Rule: e.pkg + ".deny", Messages: []string{"deny is not a set"}}
	} else if len(messages) > 0 {
		return Verdict{Rule: e.pkg + ".deny", Messages: printables(messages)}
	}
	allow := out["allow"]
	switch {
	case len(allow) == 0:
		return Verdict{Rule: e.pkg + ".allow", Messages: []string{"no rule allows it"}}
	case allow[0] == true:
		return Verdict{Allowed: true}
	case allow[0] == false:
		return Verdict{Rule: e.pkg + ".allow", Messages: []string{"no rule allows it"}}
	}
	return Verdict{Rule: e.pkg + ".allow", Messages: []string{"allow is neither true nor false"}}
}

// set gives the members of an output that is a set; none when it is undefined.
func set(values []any) ([]any, bool) {
	if len(values) == 0 {
		return nil, true
	}
	members, ok := values[0].([]any)
	return members, ok
}

// printables bounds what a policy says and makes it safe for a terminal.
func printables(messages []any) []string {
	var out []string
	for _, m := range messages[:min(len(messages), maxMessages)] {
		text, ok := m.(string)
		if !ok {
			text = "a message that is not text"
		}
		out = append(out, printable(text))
	}
	return out
}

// printable replaces what does not print, and what turns the direction of
// writing, by a question mark.
func printable(s string) string {
	if len(s) > maxMessage {
		s = s[:maxMessage]
		for !utf8.ValidString(s) && len(s) > maxMessage-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, s)
}

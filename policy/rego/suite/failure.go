package suite

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/topdown"

	"github.com/exeat-dev/exeat/policy/rego"
)

// tracer notes which lines were run, and which expression of a test did not
// hold last: that is why it failed.
type tracer struct {
	*cover.Cover
	seen int
	last map[place]failure
}

type place struct {
	file string
	line int
}

// failure is an expression that did not hold.
type failure struct {
	order int // the later, the higher
	text  string
}

// TraceEvent is called for each step of an evaluation.
func (t *tracer) TraceEvent(event topdown.Event) {
	t.Cover.TraceEvent(event)
	at := event.Location
	if event.Op != topdown.FailOp || at == nil || !strings.HasSuffix(at.File, rego.TestSuffix) {
		return
	}
	t.seen++
	t.last[place{at.File, at.Row}] = failure{t.seen, string(at.Text)}
}

// whyFailed gives the line and the text of what did not hold in a test.
func (t *tracer) whyFailed(m *ast.Module, test Test) (line int, text string) {
	end := int(^uint(0) >> 1)
	for _, rule := range m.Rules {
		if row := rule.Location.Row; row > test.Line {
			end = min(end, row)
		}
	}
	line, order := test.Line, 0
	for at, f := range t.last {
		if at.file == test.File && at.line >= test.Line && at.line < end && f.order > order {
			line, text, order = at.line, f.text, f.order
		}
	}
	return line, text
}

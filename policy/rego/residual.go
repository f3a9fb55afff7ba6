package rego

import (
	"container/list"
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/rego"
)

// Bounds on what is kept of partial evaluation.
const (
	maxResiduals     = 1024 // by recent use; memory, and not a limit on grants
	maxResidualRules = 512
	partialTimeout   = 100 * time.Millisecond
	residualPackage  = "residual"
)

// unknown are the parts of exeat.call's input that differ from call to call.
var unknown = [][]string{{"call"}, {"body"}, {"time"}, {"history"}}

// Ground is exeat.call for one grant: what of the policies depends on the grant
// alone is evaluated once, at the first call, and shared by all grants for which
// the policies read the same. It may be used by many at once.
type Ground struct {
	engine *Engine
	fields []field
	key    string
}

// Ground prepares for calls of one grant. It evaluates nothing yet.
func (e *Engine) Ground(g CallGround) *Ground {
	if !e.HasCall() {
		return &Ground{}
	}
	fields := g.items()
	return &Ground{engine: e, fields: fields, key: e.call.projection(fields)}
}

// Call asks exeat.call about a call of the ground's grant. The input's own
// ground is not looked at.
func (g *Ground) Call(ctx context.Context, in *CallInput) Verdict {
	if !g.engine.HasCall() {
		return Verdict{Allowed: true}
	}
	e := g.engine.call
	r := g.engine.partial.of(g.key, func() *residual { return e.partially(ctx, g.fields) })
	if r.verdict != nil {
		return *r.verdict
	}
	input := in.over(g.fields, func(path ...string) bool { return e.uses(path) })
	if r.query != nil {
		if out, err := r.query.run(ctx, input); err == nil {
			return e.verdict(out)
		}
		// Why it failed is said by the policy as it was written.
	}
	return e.judge(ctx, e.query, input)
}

// projection is all that the policies read of a ground, as a text. Grounds of
// one projection have one residual.
func (e *entry) projection(ground []field) string {
	var b strings.Builder
	root := ast.NewObject(ground...)
	for _, path := range e.reads {
		if isUnknown(path) {
			continue
		}
		ref := make(ast.Ref, len(path))
		for i, name := range path {
			ref[i] = ast.StringTerm(name)
		}
		found := "-"
		if v, err := root.Find(ref); err == nil {
			found = v.String()
		}
		b.WriteString(strconv.Quote(found) + ",")
	}
	return b.String()
}

func isUnknown(path []string) bool {
	for _, u := range unknown {
		if len(path) > 0 && path[0] == u[0] {
			return true
		}
	}
	return false
}

// residual is what is left of exeat.call under one ground: a verdict that no
// call changes, or a smaller policy. With neither the whole is evaluated.
type residual struct {
	verdict *Verdict
	query   *query
}

// partially evaluates what is known. Whatever goes wrong here is no verdict:
// the whole policy gives one then.
func (e *entry) partially(ctx context.Context, ground []field) *residual {
	// With the input as a whole, or a part of it replaced, partial evaluation
	// could take what is unknown for what is not there.
	if e.mocks || e.readsAll() {
		return &residual{}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), partialTimeout)
	defer cancel()
	known := ast.NewObject(ground...)
	left := map[string]*rego.PartialQueries{}
	out, constant := outputs{}, true
	for _, name := range e.outputs {
		pq, err := e.partialOf(ctx, name, known)
		if err != nil {
			return &residual{}
		}
		left[name] = pq
		value, isKnown := knownValue(pq)
		constant = constant && isKnown
		if value != nil {
			out[name] = []any{value}
		}
	}
	if constant {
		v := e.verdict(out)
		return &residual{verdict: &v}
	}
	q, err := e.rest(left)
	if err != nil {
		return &residual{}
	}
	return &residual{query: q}
}

// readsAll reports whether the input is read as a whole.
func (e *entry) readsAll() bool {
	for _, path := range e.reads {
		if len(path) == 0 {
			return true
		}
	}
	return false
}

// partialOf evaluates one output as far as it is known. Rules that depend on
// what is not known are kept as rules (shallow inlining): merged into one query
// they would no longer be seen to contradict each other.
func (e *entry) partialOf(ctx context.Context, name string, known ast.Value) (*rego.PartialQueries, error) {
	names := make([]string, len(unknown))
	for i, path := range unknown {
		names[i] = "input." + path[0]
	}
	pq, err := rego.New(
		rego.Query("x = data."+e.pkg+"."+name), rego.Compiler(e.compiler), rego.SetRegoVersion(ast.RegoV1),
		rego.Capabilities(Capabilities()), rego.StrictBuiltinErrors(true), rego.ParsedInput(known), rego.Unknowns(names),
		rego.ShallowInlining(true), rego.PartialNamespace(residualPackage+"_"+name),
	).Partial(ctx)
	if err == nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	return pq, err
}

// knownValue gives an output that nothing unknown has a part in: nil and true
// when it is undefined whatever the call.
func knownValue(pq *rego.PartialQueries) (any, bool) {
	if len(pq.Queries) == 0 {
		return nil, true
	}
	if len(pq.Queries) > 1 || len(pq.Queries[0]) != 1 {
		return nil, false
	}
	x := pq.Queries[0][0]
	if !x.IsEquality() || x.Negated || len(x.With) > 0 {
		return nil, false
	}
	a, b := x.Operand(0), x.Operand(1)
	if ast.IsConstant(a.Value) {
		a, b = b, a
	}
	if _, ok := a.Value.(ast.Var); !ok || !ast.IsConstant(b.Value) {
		return nil, false
	}
	value, err := ast.JSON(b.Value)
	return value, err == nil
}

var errTooLarge = errors.New("what partial evaluation leaves is too large")

// rest compiles what is left of the outputs.
func (e *entry) rest(left map[string]*rego.PartialQueries) (*query, error) {
	module := &ast.Module{Package: ast.MustParsePackage("package " + residualPackage)}
	modules := map[string]*ast.Module{residualPackage: module}
	rules := 0
	for name, pq := range left {
		for _, body := range pq.Queries {
			rule := &ast.Rule{Head: ast.NewHead(ast.Var(name), nil, ast.VarTerm("x")), Body: body, Module: module}
			rule.Head.Assign = true
			module.Rules = append(module.Rules, rule)
		}
		for i, support := range pq.Support {
			modules[residualPackage+"_"+name+strconv.Itoa(i)] = support
			rules += len(support.Rules)
		}
		rules += len(pq.Queries)
	}
	if rules > maxResidualRules {
		return nil, errTooLarge
	}
	if refersBeyond(modules) { // to functions, most likely, which are kept as they are
		maps.Copy(modules, e.compiler.Modules)
	}
	compiler := ast.NewCompiler().WithCapabilities(Capabilities()).WithDefaultRegoVersion(ast.RegoV1)
	if compiler.Compile(modules); compiler.Failed() {
		return nil, compiler.Errors
	}
	return newQuery(compiler, residualPackage, e.outputs, CallTimeout)
}

// refersBeyond reports whether modules refer to others than themselves.
func refersBeyond(modules map[string]*ast.Module) bool {
	beyond := false
	for _, m := range modules {
		for _, r := range dataRefs(m) {
			beyond = beyond || !defined(modules, r)
		}
	}
	return beyond
}

// residuals keeps those used last.
type residuals struct {
	mu    sync.Mutex
	byKey map[string]*list.Element
	order list.List // of *slot, the latest first
}

// slot is made by whoever comes first; others wait for it.
type slot struct {
	key  string
	once sync.Once
	of   *residual
}

func (r *residuals) of(key string, make func() *residual) *residual {
	s := r.slot(key)
	s.once.Do(func() { s.of = make() })
	if s.of == nil { // making it panicked; the whole is evaluated
		return &residual{}
	}
	return s.of
}

func (r *residuals) slot(key string) *slot {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.byKey[key]; ok {
		r.order.MoveToFront(at)
		return at.Value.(*slot)
	}
	if r.byKey == nil {
		r.byKey = make(map[string]*list.Element)
	}
	if r.order.Len() >= maxResiduals {
		old := r.order.Remove(r.order.Back()).(*slot)
		delete(r.byKey, old.key)
	}
	s := &slot{key: key}
	r.byKey[key] = r.order.PushFront(s)
	return s
}

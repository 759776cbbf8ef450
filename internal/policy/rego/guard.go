package rego

import (
	"fmt"
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/types"
)

// OPA unifies two values with a stack as deep as they have parts, those in values
// counted wherever they stand, and a stack that is too deep ends the process: no
// deadline, and no recover, comes before. A policy makes such values in a few lines.
// So, of what is unified, one side is bounded first: where both sides are known,
// they are compared instead, which takes no such stack, and where one is a pattern
// with known values in it, each of these is weighed.

// maxCompared parts of one of two values that are compared or unified: a stack of
// some hundred megabytes, at worst.
const maxCompared = 1 << 18

const guardName = "guard!"

var equalName = boundedName(ast.Equal.Name)

// guards are the functions that bind puts into policies.
var guards = map[string]*topdown.Builtin{
	guardName: {
		Decl: &ast.Builtin{Name: guardName, Decl: types.NewFunction(types.Args(types.A), types.B)},
		Func: under("unification", weighed, func(_ topdown.BuiltinContext, _ []*ast.Term, iter func(*ast.Term) error) error {
			return iter(ast.InternedTerm(true))
		}),
	},
}

// either of two values is not too large.
func either(operands []*ast.Term) error {
	if weighed(operands[:1]) == nil {
		return nil
	}
	return weighed(operands[1:2])
}

func weighed(operands []*ast.Term) error {
	switch operands[0].Value.(type) {
	case *ast.Array, ast.Set, ast.Object:
	default:
		return nil
	}
	if w := (weight{most: maxCompared}); !w.add(operands[0].Value) {
		return fmt.Errorf("refused: more than %d values", maxCompared)
	}
	return nil
}

// guard has the bodies of compiled rules bounded.
func guard(c *ast.Compiler) *ast.Error {
	g := &guarding{c: c}
	for _, file := range slices.Sorted(maps.Keys(c.Modules)) {
		for _, r := range c.Modules[file].Rules {
			for ; r != nil; r = r.Else {
				g.rule(r)
			}
		}
	}
	return g.err
}

type guarding struct {
	c    *ast.Compiler
	vars int
	err  *ast.Error
}

func (g *guarding) rule(r *ast.Rule) {
	known := vars{}
	for _, arg := range r.Head.Args {
		ast.WalkVars(arg, func(v ast.Var) bool {
			if known[v] {
				g.err = ast.NewError(ast.CompileErr, r.Loc(), "an argument must not be named twice: compare two with ==")
			}
			known[v] = true
			return false
		})
	}
	r.Body = g.body(r.Body, known)
	ast.WalkTerms(r.Head, func(t *ast.Term) bool { return g.closure(t, known) })
}

type vars map[ast.Var]bool

// varsOf a term, without those in closures.
func varsOf(x any) vars {
	v := ast.NewVarVisitor().WithParams(ast.SafetyCheckVisitorParams)
	v.Walk(x)
	out := vars{}
	for name := range v.Vars() {
		if name != ast.InputRootDocument.Value && name != ast.DefaultRootDocument.Value {
			out[name] = true
		}
	}
	return out
}

// body with what bounds each expression before it, where the variables are known.
func (g *guarding) body(body ast.Body, before vars) ast.Body {
	known := maps.Clone(before)
	var out []*ast.Expr
	for _, e := range body {
		weigh := vars{}
		exprs := g.expression(e, known, weigh)
		for _, v := range slices.Sorted(maps.Keys(weigh)) {
			out = append(out, call(e, guardName, ast.NewTerm(v)))
		}
		out = append(out, exprs...)
		maps.Copy(known, varsOf(e))
	}
	return ast.NewBody(out...)
}

// call of a function in the place of an expression.
func call(at *ast.Expr, name string, operands ...*ast.Term) *ast.Expr {
	f := &ast.Term{Value: ast.Ref{ast.VarTerm(name)}, Location: at.Location}
	return &ast.Expr{Terms: append([]*ast.Term{f}, operands...), Location: at.Location, With: at.With, Generated: true}
}

// fresh is a variable that no policy can spell.
func (g *guarding) fresh() *ast.Term {
	g.vars++
	return ast.VarTerm(fmt.Sprintf("guard!%d", g.vars))
}

// closure has the body of a comprehension bounded.
func (g *guarding) closure(t *ast.Term, known vars) bool {
	switch c := t.Value.(type) {
	case *ast.ArrayComprehension:
		c.Body = g.body(c.Body, known)
	case *ast.SetComprehension:
		c.Body = g.body(c.Body, known)
	case *ast.ObjectComprehension:
		c.Body = g.body(c.Body, known)
	default:
		return false
	}
	return true
}

// expression, or what stands for it. What has to be weighed before is collected.
func (g *guarding) expression(e *ast.Expr, known, weigh vars) []*ast.Expr {
	same := []*ast.Expr{e}
	if every, ok := e.Terms.(*ast.Every); ok {
		inner := maps.Clone(known)
		for _, t := range []*ast.Term{every.Key, every.Value} {
			if t != nil {
				maps.Copy(inner, varsOf(t))
			}
		}
		keys(every.Domain, known, weigh)
		every.Body = g.body(every.Body, inner)
		return same
	}
	ast.WalkTerms(e, func(t *ast.Term) bool { return g.closure(t, known) })
	terms, ok := e.Terms.([]*ast.Term)
	if !ok {
		if t, ok := e.Terms.(*ast.Term); ok {
			keys(t, known, weigh)
		}
		return same
	}
	for _, t := range terms[1:] {
		keys(t, known, weigh)
	}
	if e.IsEquality() && len(terms) == 3 {
		return g.equality(e, terms[1], terms[2], known, weigh)
	}
	if n := g.c.GetArity(e.Operator()); n >= 0 && len(terms) > n+1 {
		add(weigh, known, terms[n+1])
	}
	return same
}

// equality compares what is known, and weighs what is known in a pattern.
func (g *guarding) equality(e *ast.Expr, a, b *ast.Term, known, weigh vars) []*ast.Expr {
	if ast.IsConstant(a.Value) || ast.IsConstant(b.Value) || isClosure(a) || isClosure(b) {
		return []*ast.Expr{e}
	}
	for _, t := range []*ast.Term{a, b} {
		if v, ok := t.Value.(ast.Var); ok && !known[v] {
			return []*ast.Expr{e} // it gets a value, and nothing is compared
		}
	}
	var out []*ast.Expr
	open := false // a side is a pattern
	value := func(t *ast.Term) *ast.Term {
		if _, ok := t.Value.(ast.Ref); ok {
			v := g.fresh()
			out = append(out, call(e, ast.Equality.Name, v, t))
			return v
		}
		for v := range varsOf(t) {
			open = open || !known[v]
		}
		return t
	}
	a, b = value(a), value(b)
	switch {
	case open:
		add(weigh, known, a, b)
		out = append(out, call(e, ast.Equality.Name, a, b))
	default:
		out = append(out, call(e, equalName, a, b))
	}
	if !e.Negated || len(out) == 1 {
		out[len(out)-1].Negated = e.Negated
		return out
	}
	// Not all of several is that there is no answer to them.
	v := g.fresh()
	none := &ast.Term{Value: &ast.ArrayComprehension{Term: ast.InternedTerm(true), Body: ast.NewBody(out...)}, Location: e.Location}
	both := []*ast.Expr{call(e, ast.Equality.Name, v, none), call(e, ast.Equality.Name, v, ast.ArrayTerm())}
	both[0].With, both[1].With = nil, nil
	return both
}

func isClosure(t *ast.Term) bool {
	switch t.Value.(type) {
	case *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension:
		return true
	}
	return false
}

// keys of refs that are unified with those of what they refer to.
func keys(t *ast.Term, known, weigh vars) {
	ast.WalkTerms(t, func(t *ast.Term) bool {
		if isClosure(t) {
			return true
		}
		ref, ok := t.Value.(ast.Ref)
		if !ok {
			return false
		}
		for _, key := range ref[1:] {
			_, isVar := key.Value.(ast.Var)
			if !isVar || ref[0].Equal(ast.DefaultRootDocument) {
				add(weigh, known, key)
			}
		}
		return false
	})
}

func add(weigh, known vars, terms ...*ast.Term) {
	for _, t := range terms {
		for v := range varsOf(t) {
			if known[v] {
				weigh[v] = true
			}
		}
	}
}

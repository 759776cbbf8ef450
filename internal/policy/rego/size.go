package rego

import (
	"maps"
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// maxParts of the value of a rule, where each part counts wherever it stands. The
// compiler's types have as many, and it compares them in more than linear time: a
// module of thirty lines, each of which has the one before it twice, would never
// be compiled.
const maxParts = 10_000

// checkSize refuses rules whose values have too many parts.
func checkSize(c *ast.Compiler) *ast.Error {
	s := sizes{c: c, rules: map[*ast.Rule]int{}}
	for _, file := range slices.Sorted(maps.Keys(c.Modules)) {
		for _, r := range c.Modules[file].Rules {
			if s.rule(r) > maxParts {
				return ast.NewError(ast.CompileErr, r.Loc(), "the value of a rule has at most %d parts", maxParts)
			}
		}
	}
	return nil
}

type sizes struct {
	c     *ast.Compiler
	rules map[*ast.Rule]int
}

// locals of a rule: what each variable is unified with.
type locals struct {
	terms map[ast.Var][]*ast.Term
	parts map[ast.Var]int
}

func (s *sizes) rule(r *ast.Rule) int {
	if n, ok := s.rules[r]; ok {
		return n
	}
	s.rules[r] = 1 // a rule that depends on itself is refused elsewhere
	l := &locals{map[ast.Var][]*ast.Term{}, map[ast.Var]int{}}
	ast.WalkExprs(r, func(e *ast.Expr) bool {
		if !e.IsEquality() && !e.IsAssignment() {
			return false
		}
		for i, t := range e.Operands() {
			if v, ok := t.Value.(ast.Var); ok {
				l.terms[v] = append(l.terms[v], e.Operand(1-i))
			}
		}
		return false
	})
	largest := 1
	for v := range l.terms {
		largest = max(largest, s.variable(v, l))
	}
	for _, t := range []*ast.Term{r.Head.Key, r.Head.Value} {
		if t != nil {
			largest = max(largest, s.term(t, l))
		}
	}
	if r.Else != nil {
		largest = max(largest, s.rule(r.Else))
	}
	s.rules[r] = largest
	return largest
}

func (s *sizes) variable(v ast.Var, l *locals) int {
	if n, ok := l.parts[v]; ok {
		return n
	}
	l.parts[v] = 1
	n := 1
	for _, t := range l.terms[v] {
		n = max(n, s.term(t, l))
	}
	l.parts[v] = n
	return n
}

func (s *sizes) term(t *ast.Term, l *locals) int {
	n := 1
	add := func(t *ast.Term) { n = min(n+s.term(t, l), maxParts+1) }
	switch v := t.Value.(type) {
	case ast.Var:
		return s.variable(v, l)
	case ast.Ref:
		if head, ok := v[0].Value.(ast.Var); ok && !v[0].Equal(ast.DefaultRootDocument) {
			return s.variable(head, l)
		}
		for _, r := range s.c.GetRules(v.GroundPrefix()) {
			n = min(n+s.rule(r), maxParts+1)
		}
	case *ast.Array:
		v.Foreach(add)
	case ast.Set:
		v.Foreach(add)
	case ast.Object:
		v.Foreach(func(k, v *ast.Term) { add(k); add(v) })
	case *ast.ArrayComprehension:
		add(v.Term)
	case *ast.SetComprehension:
		add(v.Term)
	case *ast.ObjectComprehension:
		add(v.Key)
		add(v.Value)
	case ast.Call:
		for _, t := range v[1:] {
			add(t)
		}
	}
	return n
}

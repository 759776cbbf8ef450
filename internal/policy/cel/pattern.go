package cel

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"strconv"
	"sync/atomic"

	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
)

// maxPattern is the most instructions that a regular expression may compile to. A
// repetition of a repetition makes much of a little.
const maxPattern = 1 << 16

// repetition is a count in a regular expression.
var repetition = regexp.MustCompile(`\{([0-9]{1,4})(?:,([0-9]{0,4}))?\}`)

// pattern is a compiled regular expression.
type pattern struct {
	*regexp.Regexp
	// steps for each letter of a text, at most.
	steps uint64
}

// newPattern compiles a regular expression, unless it could become too large: what
// it could become is known before it is compiled.
func newPattern(v ref.Val) (*pattern, error) {
	s, ok := v.(types.String)
	if !ok {
		return nil, fmt.Errorf("a regular expression is a string")
	}
	times := uint64(1)
	for _, m := range repetition.FindAllStringSubmatch(string(s), -1) {
		for i := 2; i > 0; i-- {
			if n, err := strconv.ParseUint(m[i], 10, 16); err == nil {
				// More than 1,000 in all is an error of the expression.
				times = min(times*max(n, 1), 1000)
				break
			}
		}
	}
	if uint64(len(s))*times > maxPattern {
		return nil, fmt.Errorf("the regular expression is too large")
	}
	re, err := regexp.Compile(string(s))
	if err != nil {
		return nil, err
	}
	parsed, err := syntax.Parse(string(s), syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	return &pattern{Regexp: re, steps: uint64(len(program.Inst))}, nil
}

// matchings are the functions whose second argument is a regular expression.
var matchings = map[string]func(re *regexp.Regexp, args arguments) ref.Val{
	"matches": func(re *regexp.Regexp, args arguments) ref.Val {
		return types.Bool(re.MatchString(string(args[0].(types.String))))
	},
	"find": func(re *regexp.Regexp, args arguments) ref.Val {
		return text(re.FindString(string(args[0].(types.String))))
	},
	"findAll": func(re *regexp.Regexp, args arguments) ref.Val {
		n := -1
		if limit, ok := args[2].(types.Int); ok {
			n = int(limit)
		}
		found := re.FindAllString(string(args[0].(types.String)), n)
		return newList(len(found), func(i int) ref.Val { return text(found[i]) })
	},
}

// match is a call with a regular expression.
type match struct {
	*call
	matching func(re *regexp.Regexp, args arguments) ref.Val
	literal  *pattern // nil if the expression is not in the policy
	// last expression that was not, which is most often a parameter, and so the same
	// each time. It is paid for as if it were compiled: what an evaluation may cost
	// does not depend on those before.
	last atomic.Pointer[remembered]
}

// remembered is a regular expression with what it was compiled of.
type remembered struct {
	of types.String
	*pattern
}

// compiled is the regular expression of a value.
func (m *match) compiled(v ref.Val) (*pattern, error) {
	s, ok := v.(types.String)
	if last := m.last.Load(); ok && last != nil && last.of == s {
		return last.pattern, nil
	}
	p, err := newPattern(v)
	if err == nil {
		m.last.Store(&remembered{s, p})
	}
	return p, err
}

// Exec the match.
func (m *match) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	var args arguments
	for i, a := range m.args {
		v := a.Exec(frame)
		if types.IsUnknownOrError(v) {
			return v
		}
		args[min(i, len(args)-1)] = v
	}
	if _, ok := args[0].(types.String); !ok {
		return types.MaybeNoSuchOverloadErr(args[0])
	}
	p := m.literal
	if p == nil {
		pay(frame, 16*length(args[1])+cheap)
		var err error
		if p, err = m.compiled(args[1]); err != nil {
			return types.NewErr("cannot match: %s", err)
		}
		pay(frame, 16*p.steps) // it takes longer to compile an instruction than to run it
	}
	pay(frame, multiply(length(args[0])+1, p.steps)/4)
	if m.Function() == "findAll" {
		pay(frame, 8*length(args[0])) // each letter may be found, and is a value then
	}
	return m.matching(p.Regexp, args)
}

// Eval the match.
func (m *match) Eval(vars interpreter.Activation) ref.Val { return m.Exec(interpreter.AsFrame(vars)) }

// badPattern finds a regular expression in a parsed expression that does not
// compile: its place and what is wrong with it. It is looked for before cel-go
// compiles it.
func badPattern(root ast.Expr) (id int64, err error) {
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() != ast.CallKind || err != nil {
			return
		}
		c := x.AsCall()
		args := c.Args()
		if c.IsMemberFunction() {
			args = append([]ast.Expr{c.Target()}, args...)
		}
		if _, ok := matchings[c.FunctionName()]; !ok || len(args) < 2 || args[1].Kind() != ast.LiteralKind {
			return
		}
		if _, ok := args[1].AsLiteral().(types.String); !ok {
			return // which is for the checker to say
		}
		if _, e := newPattern(args[1].AsLiteral()); e != nil {
			id, err = args[1].ID(), e
		}
	}))
	return id, err
}

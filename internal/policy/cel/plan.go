package cel

import (
	"fmt"
	"slices"
	"sync"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/ast"
	"github.com/google/cel-go/common/functions"
	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apiserver/pkg/cel/environment"
)

// environ is what every policy is compiled in.
type environ struct {
	*cel.Env
	schema      *schema
	dispatcher  interpreter.Dispatcher
	interpreter interpreter.Interpreter
}

// shared is made once: it takes longer than most policies.
var shared = sync.OnceValues(newEnviron)

func newEnviron() (*environ, error) {
	s, err := newSchema()
	if err != nil {
		return nil, fmt.Errorf("cannot type the input: %w", err)
	}
	base := kubernetes().StoredExpressionsEnv()
	p := &provider{Provider: base.CELTypeProvider(), Adapter: base.CELTypeAdapter(), schema: s}
	// What is stored is read with all that Kubernetes knows; a policy is in Git, and
	// there is no older API server that would have to read it.
	set, err := kubernetes().Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions: append([]cel.EnvOption{
			cel.CustomTypeProvider(p), cel.CustomTypeAdapter(p), cel.Variable("input", s.input.cel),
		}, rbacLibrary(s)...),
	})
	if err != nil {
		return nil, fmt.Errorf("cannot make the environment: %w", err)
	}
	e := &environ{Env: set.StoredExpressionsEnv(), schema: s, dispatcher: interpreter.NewDispatcher()}
	for name, f := range e.Functions() {
		bindings, err := f.Bindings()
		if err != nil {
			return nil, fmt.Errorf("cannot bind function %q: %w", name, err)
		}
		if err := e.dispatcher.Add(bindings...); err != nil {
			return nil, fmt.Errorf("cannot bind function %q: %w", name, err)
		}
	}
	factory := interpreter.NewAttributeFactory(e.Container, p, p, interpreter.EnableErrorOnBadPresenceTest(true))
	e.interpreter = interpreter.NewInterpreter(e.dispatcher, e.Container, p, p, factory)
	return e, nil
}

func kubernetes() *environment.EnvSet {
	return environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
}

// plan a checked expression.
func (e *environ) plan(a *cel.Ast) (interpreter.InterpretableV2, error) {
	d := &decorator{dispatcher: e.dispatcher, loops: map[int64]uint64{}}
	root := a.NativeRep().Expr()
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(x ast.Expr) {
		if x.Kind() == ast.ComprehensionKind {
			c := x.AsComprehension()
			d.loops[c.IterRange().ID()] = nodes(c.LoopCondition()) + nodes(c.LoopStep())
		}
	}))
	return e.interpreter.NewInterpretable(a.NativeRep(), interpreter.Optimize(), interpreter.CustomDecoratorV2(d.decorate))
}

// nodes of an expression.
func nodes(x ast.Expr) (n uint64) {
	ast.PostOrderVisit(x, ast.NewExprVisitor(func(ast.Expr) { n++ }))
	return n
}

// decorator puts a price on each step of a plan whose work depends on values.
type decorator struct {
	dispatcher interpreter.Dispatcher
	// loops are the ranges of comprehensions, by id, with what one turn costs.
	loops map[int64]uint64
}

func (d *decorator) decorate(i interpreter.InterpretableV2) (interpreter.InterpretableV2, error) {
	switch n := i.(type) {
	case interpreter.InterpretableCall:
		i = d.call(n)
	case interpreter.InterpretableConstructor:
		i = &construction{InterpretableConstructor: n}
	}
	turn, ok := d.loops[i.ID()]
	if !ok {
		return i, nil
	}
	if a, ok := i.(interpreter.InterpretableAttribute); ok {
		return &attributeRange{InterpretableAttribute: a, turn: turn}, nil
	}
	return &loopRange{InterpretableV2: i, turn: turn}, nil
}

func (d *decorator) call(n interpreter.InterpretableCall) interpreter.InterpretableV2 {
	args := n.Args()
	if n.Function() == operators.LogicalNot {
		return n
	}
	c := &call{InterpretableCall: n, args: args, price: priceOf(n.Function())}
	switch {
	case n.Function() == operators.Equals:
		return &equality{call: c, want: types.True}
	case n.Function() == operators.NotEquals:
		return &equality{call: c, want: types.False}
	case n.Function() == "or" && len(args) == 2, n.Function() == "orValue" && len(args) == 2:
		return &alternative{call: c}
	}
	if c.impl, _ = d.dispatcher.FindOverload(n.OverloadID()); c.impl == nil {
		c.impl, _ = d.dispatcher.FindOverload(n.Function())
	}
	if c.impl != nil && c.impl.NonStrict {
		return n // looks at what is an error, and at no value
	}
	if matching, ok := matchings[n.Function()]; ok && len(args) > 1 {
		m := &match{call: c, matching: matching}
		if literal, ok := args[1].(interpreter.InterpretableConst); ok {
			m.literal, _ = newPattern(literal.Value())
		}
		return m
	}
	if n.Function() == allowsFunction && len(args) == 4 {
		return &allowance{call: c}
	}
	return c
}

// call of a function, paid for before it is made.
type call struct {
	interpreter.InterpretableCall
	args  []interpreter.InterpretableV2
	price price
	impl  *functions.Overload
}

// Exec the call.
func (c *call) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	var args arguments
	var more []ref.Val // after those
	for i, a := range c.args {
		v := a.Exec(frame)
		if types.IsUnknownOrError(v) {
			return v
		}
		if i < len(args) {
			args[i] = v
		} else {
			more = append(more, v)
		}
	}
	pay(frame, c.price(args))
	return c.invoke(args, more)
}

func (c *call) invoke(args arguments, more []ref.Val) ref.Val {
	n := len(c.args)
	switch {
	case c.impl == nil:
	case c.impl.OperandTrait != 0 && (n == 0 || !args[0].Type().HasTrait(c.impl.OperandTrait)):
	case n == 1 && c.impl.Unary != nil:
		return c.impl.Unary(args[0])
	case n == 2 && c.impl.Binary != nil:
		return c.impl.Binary(args[0], args[1])
	case c.impl.Function != nil:
		return c.impl.Function(append(slices.Clone(args[:min(n, len(args))]), more...)...)
	}
	if n > 0 && args[0].Type().HasTrait(traits.ReceiverType) {
		rest := append(slices.Clone(args[1:min(n, len(args))]), more...)
		return args[0].(traits.Receiver).Receive(c.Function(), c.OverloadID(), rest)
	}
	return types.NewErr("no such overload: %s", c.Function())
}

// Eval the call.
func (c *call) Eval(vars interpreter.Activation) ref.Val { return c.Exec(interpreter.AsFrame(vars)) }

// equality is == and !=.
type equality struct {
	*call
	want ref.Val
}

// Exec the comparison.
func (e *equality) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	a := e.args[0].Exec(frame)
	if types.IsUnknownOrError(a) {
		return a
	}
	b := e.args[1].Exec(frame)
	if types.IsUnknownOrError(b) {
		return b
	}
	if x, ok := a.(types.String); ok {
		if y, ok := b.(types.String); ok && len(x) < cheapText {
			return types.Bool((x == y) == (e.want == types.True))
		}
	}
	pay(frame, add(weigh(a, budget), weigh(b, budget)))
	return types.Bool(types.Equal(a, b) == e.want)
}

// Eval the comparison.
func (e *equality) Eval(vars interpreter.Activation) ref.Val {
	return e.Exec(interpreter.AsFrame(vars))
}

// alternative is or and orValue of an optional: what follows is only looked at
// where there is no value.
type alternative struct{ *call }

// Exec the alternative.
func (a *alternative) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := a.args[0].Exec(frame)
	if types.IsUnknownOrError(v) {
		return v
	}
	o, ok := v.(*types.Optional)
	switch {
	case !ok:
		return types.NoSuchOverloadErr()
	case !o.HasValue():
		return a.args[1].Exec(frame)
	case a.Function() == "or":
		return o
	}
	return o.GetValue()
}

// Eval the alternative.
func (a *alternative) Eval(vars interpreter.Activation) ref.Val {
	return a.Exec(interpreter.AsFrame(vars))
}

// construction of a list or a map. It costs what is in it, with all that is in
// that: a value that holds another twice is twice as large to whoever goes through
// it, and a short policy could make one that is larger than the world.
type construction struct {
	interpreter.InterpretableConstructor
}

// Exec the construction.
func (c *construction) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	v := c.InterpretableConstructor.Exec(frame)
	pay(frame, weigh(v, budget))
	return v
}

// Eval the construction.
func (c *construction) Eval(vars interpreter.Activation) ref.Val {
	return c.Exec(interpreter.AsFrame(vars))
}

// loopRange is what a comprehension goes through: all turns are paid for at once.
type loopRange struct {
	interpreter.InterpretableV2
	turn uint64
}

// Exec the range.
func (l *loopRange) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return ranged(frame, l.InterpretableV2.Exec(frame), l.turn)
}

// Eval the range.
func (l *loopRange) Eval(vars interpreter.Activation) ref.Val {
	return l.Exec(interpreter.AsFrame(vars))
}

// attributeRange is a loopRange that is an attribute, as which the planner may want
// it.
type attributeRange struct {
	interpreter.InterpretableAttribute
	turn uint64
}

// Exec the range.
func (l *attributeRange) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	return ranged(frame, l.InterpretableAttribute.Exec(frame), l.turn)
}

// Eval the range.
func (l *attributeRange) Eval(vars interpreter.Activation) ref.Val {
	return l.Exec(interpreter.AsFrame(vars))
}

func ranged(frame *interpreter.ExecutionFrame, v ref.Val, turn uint64) ref.Val {
	if s, ok := v.(traits.Sizer); ok {
		if n, ok := s.Size().(types.Int); ok && n > 0 {
			pay(frame, multiply(uint64(n), turn))
		}
	}
	return sorted(v)
}

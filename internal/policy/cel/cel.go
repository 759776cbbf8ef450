package cel

import (
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"sync"
	"sync/atomic"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/checker"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/cel/library"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Options for the author of a policy.
type Options struct {
	// Coverage has the Check count, as a coverage.Counter.
	Coverage bool
}

// Compile a policy with its parameters, which are of JSON: numbers are json.Number.
// The errors are at the expressions, with line and column, all that there are.
//
// Each validation is evaluated, whatever comes of the others. One that is false is a
// definite objection, and a Check with such a violation returns no error: an error
// would hold what stands where the violation revokes it. Only where nothing is
// violated is an error returned.
func Compile(at *field.Path, p *v1alpha1.CELPolicy, parameters map[string]any, o Options) (guardrail.Check, field.ErrorList) {
	env, err := shared()
	if err != nil {
		return nil, field.ErrorList{field.InternalError(at, err)}
	}
	c := &check{variables: make([]interpreter.InterpretableV2, len(p.Variables)), byName: map[string]int{}}
	if parameters == nil {
		parameters = map[string]any{}
	}
	if c.parameters, err = valueOf(parameters); err != nil {
		return nil, field.ErrorList{field.Invalid(at, field.OmitValueType{}, "parameters: "+err.Error())}
	}
	weigh(c.parameters, never) // now, since it is shared from here on
	if len(p.Validations) == 0 {
		return nil, field.ErrorList{field.Required(at.Child("validations"), "without any, nothing is refused")}
	}
	k := &compiler{planner: env, env: env.Env}
	for i, v := range p.Variables {
		at := at.Child("variables").Index(i)
		name := "variables." + v.Name
		if !variableName.MatchString(v.Name) {
			k.invalid(at.Child("name"), "must be the name of a variable")
			continue
		}
		if _, ok := c.byName[name]; ok {
			k.errs = append(k.errs, field.Duplicate(at.Child("name"), v.Name))
			continue
		}
		plan, t := k.compile(at.Child("expression"), v.Expression, nil, &k.verdict)
		if t == nil {
			t = cel.DynType // what uses it is not to blame
		}
		c.variables[i], c.byName[name] = plan, i
		k.declare(at.Child("name"), name, t)
	}
	for i, v := range p.Validations {
		at := at.Child("validations").Index(i)
		out := validation{expression: v.Expression, message: guardrail.Tidy(v.Message), field: guardrail.Tidy(v.Field)}
		out.plan, _ = k.compile(at.Child("expression"), v.Expression, cel.BoolType, &k.verdict)
		if v.MessageExpression != "" {
			out.says, _ = k.compile(at.Child("messageExpression"), v.MessageExpression, cel.StringType, &k.messages)
		}
		if out.message == "" {
			out.message = guardrail.Tidy("failed: " + v.Expression)
		}
		if out.says == nil {
			out.alone = []guardrail.Violation{{Message: out.message, Field: out.field}}
		}
		if o.Coverage {
			out.reached = &reached{}
		}
		c.validations = append(c.validations, out)
	}
	if len(k.errs) > 0 {
		return nil, k.errs
	}
	c.timed = k.verdict.now || k.messages.now
	if o.Coverage {
		return counted{c}, nil // which is evaluated each time
	}
	c.passes = newPasses(k.verdict)
	return c, nil
}

// variableName is what the API allows. A policy that comes another way may have others.
var variableName = regexp.MustCompile(`^[_a-zA-Z][_a-zA-Z0-9]*$`)

// compiler of the expressions of one policy.
type compiler struct {
	planner *environ
	env     *cel.Env // with the variables so far
	errs    field.ErrorList
	// verdict is what all variables and validations look at, messages what the others do:
	// what is passed has no message.
	verdict, messages reads
}

func (k *compiler) declare(at *field.Path, name string, t *cel.Type) {
	env, err := k.env.Extend(cel.Variable(name, t))
	if err != nil {
		k.invalid(at, "%s", err)
		return
	}
	k.env = env
}

// compile an expression, of the type if one is given, and note what it reads. The plan
// is nil where there are errors.
func (k *compiler) compile(at *field.Path, expression string, want *cel.Type, reads *reads) (interpreter.InterpretableV2, *cel.Type) {
	parsed, iss := k.env.Parse(expression)
	if k.issues(at, iss) {
		return nil, nil
	}
	if id, err := badPattern(parsed.NativeRep().Expr()); err != nil {
		place := parsed.NativeRep().SourceInfo().GetStartLocation(id)
		k.invalid(at, "%d:%d: %s", place.Line(), place.Column()+1, guardrail.Tidy(err.Error()))
		return nil, nil
	}
	checked, iss := k.env.Compile(expression)
	if k.issues(at, iss) {
		return nil, nil
	}
	if t := checked.OutputType(); want != nil && !t.IsExactType(want) {
		k.invalid(at, "1:1: must be of type %s and is of type %s", want, describe(t))
		return nil, nil
	}
	cost, err := k.env.EstimateCost(checked, &library.CostEstimator{SizeEstimator: sizes{}})
	if err != nil {
		k.invalid(at, "1:1: cannot estimate the cost: %s", guardrail.Tidy(err.Error()))
		return nil, nil
	}
	if cost.Max > maxEstimate {
		k.invalid(at, "1:1: its loops in one another are too many, or go through too much")
		return nil, nil
	}
	plan, err := k.planner.plan(checked)
	if err != nil {
		k.invalid(at, "1:1: cannot plan the expression: %s", guardrail.Tidy(err.Error()))
		return nil, nil
	}
	reads.add(checked.NativeRep())
	return plan, checked.OutputType()
}

func (k *compiler) invalid(at *field.Path, format string, args ...any) {
	k.errs = append(k.errs, field.Invalid(at, field.OmitValueType{}, fmt.Sprintf(format, args...)))
}

// issues that cel-go has with an expression, if any.
func (k *compiler) issues(at *field.Path, iss *cel.Issues) bool {
	for _, e := range iss.Errors() {
		k.invalid(at, "%d:%d: %s", e.Location.Line(), e.Location.Column()+1, guardrail.Tidy(e.Message))
	}
	return iss.Err() != nil
}

// sizes are what the estimate of an expression's cost assumes of the input: what a
// grant of everyday has, so that it only finds what could never be afforded. What a
// policy costs on a larger one is found when it is evaluated.
type sizes struct{}

// EstimateSize of a node.
func (sizes) EstimateSize(n checker.AstNode) *checker.SizeEstimate {
	switch n.Type().Kind() {
	case types.ListKind, types.MapKind:
		return &checker.SizeEstimate{Max: 16}
	}
	return &checker.SizeEstimate{Max: 64}
}

// EstimateCallCost of a function that Kubernetes does not know.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}

// check is a compiled policy.
type check struct {
	parameters  ref.Val
	variables   []interpreter.InterpretableV2
	byName      map[string]int
	validations []validation
	timed       bool
	passes      *passes // nil where nothing is remembered
}

// validation is one compiled validation.
type validation struct {
	plan, says                 interpreter.InterpretableV2 // says may be nil
	expression, message, field string
	// alone is the violation, where its message is known. It is shared and not changed:
	// a request that is refused for one reason allocates nothing for it.
	alone   []guardrail.Violation
	reached *reached // nil where nothing is counted
}

// reached is what has come of a validation so far.
type reached struct{ yes, no, said atomic.Bool }

// Timed reports whether the policy looks at input.now.
func (c *check) Timed() bool { return c.timed }

// Check an input.
func (c *check) Check(in *guardrail.Input) ([]guardrail.Violation, error) {
	e := evaluations.Get().(*evaluation)
	e.check, e.in = c, in
	defer e.release()
	remember := c.passes.rememberable(in)
	if remember {
		e.key = c.passes.reads.key(e.key[:0], in.Request)
		remember = len(e.key) <= longestPass
	}
	if remember && c.passes.has(in.Request, e.key) {
		return nil, nil
	}
	var out []guardrail.Violation
	var errs []error
	for i := range c.validations {
		v := &c.validations[i]
		got, err := e.evaluate(v.plan)
		ok, isBool := got.(types.Bool)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("validations[%d]: %w", i, err))
		case !isBool:
			errs = append(errs, fmt.Errorf("validations[%d]: has the value of a %s", i, got.Type().TypeName()))
		case bool(ok):
			v.reached.mark(true)
		default:
			v.reached.mark(false)
			if out == nil && v.alone != nil {
				out = v.alone[:1:1] // what is appended to it is a copy
				continue
			}
			out = append(out, guardrail.Violation{Message: e.message(v), Field: v.field})
		}
	}
	if len(out) > 0 {
		return out, nil
	}
	// It is remembered that all of it held, and by the key alone: whatever else was looked
	// at may be another the next time, and what failed may not fail then.
	if remember && !e.looked && len(errs) == 0 {
		c.passes.add(in.Request, e.key)
	}
	return nil, errors.Join(errs...)
}

// message of a validation that is false.
func (e *evaluation) message(v *validation) string {
	if v.says == nil {
		return v.message
	}
	got, err := e.evaluate(v.says)
	s, ok := got.(types.String)
	if err != nil || !ok {
		return v.message
	}
	if v.reached != nil {
		v.reached.said.Store(true)
	}
	if m := guardrail.Tidy(string(s)); m != "" {
		return m
	}
	return v.message
}

// evaluation of a policy on an input. It is what the plans see as their variables.
type evaluation struct {
	check *check
	in    *guardrail.Input
	// spent of the budget.
	spent uint64
	// values of the variables that have been asked for.
	values []ref.Val
	// looked: at what is not in a pass, the instant or the grants.
	looked bool
	// key of the input among passes.
	key []byte
}

// evaluations that are done, for others: an evaluation costs little more than what
// it would allocate.
var evaluations = sync.Pool{New: func() any { return &evaluation{} }}

func (e *evaluation) release() {
	clear(e.values)
	key := e.key[:0]
	if cap(key) > 4*longestPass {
		key = nil
	}
	*e = evaluation{values: e.values[:0], key: key}
	evaluations.Put(e)
}

// evaluate a plan. What it panics with is its error.
func (e *evaluation) evaluate(plan interpreter.InterpretableV2) (v ref.Val, err error) {
	frame, err := interpreter.NewExecutionFrame(e)
	if err != nil {
		return nil, err
	}
	defer func() {
		frame.Close()
		if p := recover(); p != nil {
			if over, ok := p.(error); ok && errors.Is(over, errBudget) {
				v, err = nil, errBudget
				return
			}
			v, err = nil, fmt.Errorf("cannot evaluate: %v", p)
		}
	}()
	if e.spent > budget {
		return nil, errBudget
	}
	v = plan.Exec(frame)
	if failed, ok := v.(*types.Err); ok {
		return nil, failed
	}
	if types.IsUnknown(v) {
		return nil, errors.New("the value is unknown")
	}
	return v, nil
}

// ResolveName of a variable.
func (e *evaluation) ResolveName(name string) (any, bool) {
	switch name {
	case "input", meter:
		return e, true
	}
	i, ok := e.check.byName[name]
	if !ok {
		return nil, false
	}
	return e.variable(i), true
}

// Parent is none.
func (e *evaluation) Parent() interpreter.Activation { return nil }

// variable is evaluated once, if at all.
func (e *evaluation) variable(i int) ref.Val {
	for len(e.values) <= i {
		e.values = append(e.values, nil)
	}
	if v := e.values[i]; v != nil {
		return v
	}
	v, err := e.evaluate(e.check.variables[i])
	switch {
	case errors.Is(err, errBudget):
		panic(errBudget)
	case err != nil:
		v = types.WrapErr(err)
	}
	e.values[i] = v
	return v
}

// fieldKey is where the view of a field of an input is kept.
type fieldKey int

// field of the input; nil where it is absent.
func (e *evaluation) field(f *fieldType) ref.Val {
	if f.to == nil {
		return e.check.parameters
	}
	// Before what is known of the input from others, by which it is looked at as well.
	e.looked = e.looked || f.goes == nowField || f.goes == grantsField
	v, _ := e.in.Memo(fieldKey(f.index), func() any { return f.of(reflect.ValueOf(e.in).Elem()) }).(ref.Val)
	return v
}

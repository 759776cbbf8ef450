// Package rego evaluates guardrails in OPA's language, Rego v1.
//
// A policy is a package whose partial set deny holds what it objects to: messages,
// or objects with message and, where it is about a field of the grant, field. It
// sees input, the data that came with it, and the library (Library).
//
// A policy is code of somebody else. What it may call is a list (Capabilities), what
// a call may be given is bounded, as are the values that are compared or unified,
// and an evaluation has a deadline. What the deadline cannot cut, because it is one
// long step, is left behind, and no other is begun until it has ended. A policy that
// misses its deadline again and again for the grants of one namespace, or for
// requests, is answered with an error there for a while, unasked. Each Check keeps
// that state, and it only ever makes an answer an error. As many evaluations are
// under way as there are processors; the others wait, and the deadline is of the
// evaluation alone.
//
// An error of a built-in function fails the evaluation, where OPA would go on as if
// the expression were undefined: a policy that stumbles must not be one that is
// passed.
//
// Partial evaluation of what is known when a policy is compiled, its parameters and
// data, was measured and left out: what it saves is less than what the rules cost
// that it makes, and evaluations took a tenth longer.
package rego

import (
	"cmp"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
)

// Policy is a package of modules whose rule deny is asked.
type Policy struct {
	// Modules by file name. Those that end in _test.rego are for the author and left
	// out.
	Modules map[string]string
	// Main is the file whose package is asked; or Package names it, such as
	// data.guardrails.exec.
	Main, Package string
	// Data that the modules read.
	Data map[string]any
	// Parameters are input.parameters.
	Parameters map[string]any
}

// Deadlines of one evaluation. Somebody waits for the answer to a request; that about
// a grant may come later, so that a busy machine is not taken for a slow policy.
const (
	RequestDeadline = 100 * time.Millisecond
	GrantDeadline   = time.Second
)

// Options of compiling. In force, a policy has neither Print nor Coverage.
type Options struct {
	// Print is where print goes; nil for nowhere.
	Print io.Writer
	// Coverage has the Check count, as a coverage.Counter.
	Coverage bool
	// Deadline of one evaluation; 0 for RequestDeadline and GrantDeadline.
	Deadline time.Duration
}

// deadline of an evaluation.
func (o *Options) deadline(in *guardrail.Input) time.Duration {
	if o.Deadline == 0 && in.Request == nil {
		return GrantDeadline
	}
	return cmp.Or(o.Deadline, RequestDeadline)
}

// Compile a policy. Errors are at the path, with file, line and column.
func Compile(at *field.Path, p Policy, o Options) (guardrail.Check, field.ErrorList) {
	b, errs := CompileModules(at, p.Modules, p.Data, o)
	if len(errs) > 0 {
		return nil, errs
	}
	name := p.Package
	if p.Main != "" {
		m := b.modules[p.Main]
		if m == nil {
			return nil, field.ErrorList{field.Invalid(at, field.OmitValueType{}, "there is no module "+p.Main)}
		}
		name = m.Package.Path.String()
	}
	return b.Check(at, name, p.Parameters)
}

// Modules are compiled together, once, for all guardrails that are packages of
// them. They are immutable.
type Modules struct {
	modules  map[string]*ast.Module // as they were parsed, without the library
	compiler *ast.Compiler
	store    storage.Store
	options  Options
}

// CompileModules compiles modules by file name with the data that they read.
func CompileModules(at *field.Path, modules map[string]string, data map[string]any, o Options) (*Modules, field.ErrorList) {
	parsed, errs := parse(modules)
	if len(errs) > 0 {
		return nil, invalid(at, errs)
	}
	if _, ok := data[reserved]; ok {
		return nil, field.ErrorList{field.Invalid(at, field.OmitValueType{}, "data."+reserved+" is the library: data must not have it")}
	}
	c := compiler(o).WithPathConflictsCheck(func(path []string) (bool, error) { return has(data, path), nil })
	all := maps.Clone(parsed)
	maps.Copy(all, parsedLibrary())
	if c.Compile(all); c.Failed() {
		return nil, invalid(at, c.Errors)
	}
	if data == nil {
		data = map[string]any{}
	}
	return &Modules{
		modules: parsed, compiler: c, options: o,
		store: inmem.NewFromObjectWithOpts(data, inmem.OptReturnASTValuesOnRead(true)),
	}, nil
}

// Packages of the modules that have a partial set deny, and so are policies,
// sorted. Nil modules have none.
func (b *Modules) Packages() []string { return policies(b.modules) }

// Packages of modules by file name that are policies, without compiling more of
// them than that takes.
func Packages(modules map[string]string) ([]string, error) {
	parsed, errs := parse(modules)
	if len(errs) > 0 {
		return nil, errs
	}
	return policies(parsed), nil
}

func policies(modules map[string]*ast.Module) []string {
	out := map[string]bool{}
	for _, m := range modules {
		for _, r := range m.Rules {
			if isDeny(r) && r.Head.RuleKind() == ast.MultiValue {
				out[m.Package.Path.String()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(out))
}

// Check of a package, such as data.guardrails.exec, with parameters.
func (b *Modules) Check(at *field.Path, name string, parameters map[string]any) (guardrail.Check, field.ErrorList) {
	wrong := func(err string) (guardrail.Check, field.ErrorList) {
		return nil, field.ErrorList{field.Invalid(at, field.OmitValueType{}, err)}
	}
	entry, errs := b.entry(name)
	if len(errs) > 0 {
		return nil, invalid(at, errs)
	}
	if entry == nil {
		return wrong("package " + strings.TrimPrefix(name, "data.") + " has no rule deny")
	}
	body, err := b.compiler.QueryCompiler().Compile(ast.NewBody(ast.Equality.Expr(ast.NewTerm(entry), ast.NewTerm(answer))))
	if err != nil {
		return wrong(err.Error())
	}
	c := &check{modules: b, query: body, timed: b.timed(entry), parameters: noParameters, now: time.Now}
	if len(parameters) > 0 {
		v, err := ast.InterfaceToValue(parameters)
		if err != nil {
			return wrong("parameters: " + err.Error())
		}
		c.parameters = ast.NewTerm(v)
	}
	if b.options.Coverage {
		return newCounted(c, name), nil
	}
	return c, nil
}

// entry is the rule deny of a package; nil if there is none.
func (b *Modules) entry(name string) (ast.Ref, ast.Errors) {
	var entry ast.Ref
	var errs ast.Errors
	for _, file := range slices.Sorted(maps.Keys(b.modules)) {
		m := b.modules[file]
		if m.Package.Path.String() != name {
			continue
		}
		for _, r := range m.Rules {
			switch {
			case !isDeny(r):
			case r.Head.RuleKind() != ast.MultiValue || len(r.Head.Args) > 0 || len(r.Head.Ref()) > 1:
				errs = append(errs, ast.NewError(ast.CompileErr, r.Loc(), "deny must be a set of what the policy objects to: deny contains message if { ... }"))
			default:
				entry = m.Package.Path.Append(ast.StringTerm("deny"))
			}
		}
	}
	return entry, errs
}

func isDeny(r *ast.Rule) bool { return r.Head.Ref()[0].Equal(denyName) }

var (
	denyName = ast.VarTerm("deny")
	answer   = ast.Var("answer")
)

// timed reports whether an entry depends on the instant: whether a rule that it
// reaches reads input.now, or more of input than can be told.
func (b *Modules) timed(entry ast.Ref) bool {
	seen := map[*ast.Rule]bool{}
	var reads func(*ast.Rule) bool
	reads = func(r *ast.Rule) (found bool) {
		if seen[r] {
			return false
		}
		seen[r] = true
		ast.WalkRefs(r, func(ref ast.Ref) bool {
			found = found || readsNow(ref)
			return found
		})
		for next := range b.compiler.Graph.Dependencies(r) {
			if rule, ok := next.(*ast.Rule); ok && !found {
				found = reads(rule)
			}
		}
		if r.Else != nil && !found {
			found = reads(r.Else)
		}
		return found
	}
	return slices.ContainsFunc(b.compiler.GetRules(entry), reads)
}

func readsNow(ref ast.Ref) bool {
	if !ref[0].Equal(ast.InputRootDocument) {
		return false
	}
	if len(ref) == 1 {
		return true
	}
	key, ok := ref[1].Value.(ast.String)
	return !ok || key == "now"
}

// has reports whether there is something at a path of data.
func has(data map[string]any, path []string) bool {
	var at any = data
	for _, step := range path {
		m, ok := at.(map[string]any)
		if !ok {
			return false
		}
		if at, ok = m[step]; !ok {
			return false
		}
	}
	return true
}

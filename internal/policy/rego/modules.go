package rego

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// What a module may be, so that reading it is cheap.
const (
	maxModule  = 1 << 18 // bytes
	maxNesting = 200     // of brackets
	maxErrors  = 100
)

// parse modules, each by itself: the errors are of all of them.
func parse(modules map[string]string) (map[string]*ast.Module, ast.Errors) {
	out := map[string]*ast.Module{}
	var errs ast.Errors
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		if strings.HasSuffix(file, "_test.rego") {
			continue
		}
		m, err := parseModule(file, modules[file])
		if err != nil {
			errs = append(errs, err...)
			continue
		}
		out[file] = m
	}
	return out, errs
}

func parseModule(file, source string) (*ast.Module, ast.Errors) {
	wrong := func(loc *ast.Location, format string, args ...any) ast.Errors {
		return ast.Errors{ast.NewError(ast.ParseErr, loc, format, args...)}
	}
	start := ast.NewLocation(nil, file, 1, 1)
	if len(source) > maxModule {
		return nil, wrong(start, "a module has at most %d bytes", maxModule)
	}
	if row := tooDeep(source); row > 0 {
		return nil, wrong(ast.NewLocation(nil, file, row, 1), "brackets are nested more than %d deep", maxNesting)
	}
	m, err := ast.ParseModuleWithOpts(file, source, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: capabilities()})
	if err != nil {
		var errs ast.Errors
		if errors.As(err, &errs) {
			return nil, errs
		}
		var one *ast.Error
		if errors.As(err, &one) {
			return nil, wrong(start, "%s", one.Message)
		}
		return nil, wrong(start, "%v", err)
	}
	if m == nil {
		return nil, wrong(start, "the module is empty")
	}
	if path := m.Package.Path; len(path) > 1 && path[1].Equal(ast.StringTerm(reserved)) {
		return nil, wrong(m.Package.Loc(), "package %s is of the library", reserved)
	}
	return m, nil
}

// tooDeep is the row at which brackets are nested too deep for the parser's
// recursion to be cheap, 0 if there is none. Brackets in text count, too.
func tooDeep(source string) int {
	depth, row := 0, 1
	for i := range len(source) {
		switch source[i] {
		case '\n':
			row++
		case '(', '[', '{':
			if depth++; depth > maxNesting {
				return row
			}
		case ')', ']', '}':
			depth = max(depth-1, 0)
		}
	}
	return 0
}

var parsedLibrary = sync.OnceValue(func() map[string]*ast.Module {
	out := map[string]*ast.Module{}
	for file, source := range library {
		out[file] = ast.MustParseModuleWithOpts(source, ast.ParserOptions{RegoVersion: ast.RegoV1, Capabilities: capabilities()})
	}
	return out
})

// compiler of modules, as strict as opa check --strict.
func compiler(o Options) *ast.Compiler {
	c := ast.NewCompiler().
		WithCapabilities(capabilities()).
		WithDefaultRegoVersion(ast.RegoV1).
		WithStrict(true).
		WithEnablePrintStatements(o.Print != nil).
		SetErrorLimit(maxErrors)
	c.WithStageAfterID(ast.StageResolveRefs, ast.CompilerStageDefinition{
		Name: "CheckWith", MetricName: "check_with", Stage: checkWith,
	})
	c.WithStageAfterID(ast.StageCheckRecursion, ast.CompilerStageDefinition{
		Name: "CheckSize", MetricName: "check_size", Stage: checkSize,
	})
	c.WithStageAfterID(ast.StageBuildRequiredCapabilities, ast.CompilerStageDefinition{
		Name: "Bind", MetricName: "bind", Stage: bind,
	})
	return c
}

// checkWith refuses to replace functions and the library. A policy in force replaces
// parts of input, and of its own data, and nothing else: what replaces a function
// is how a policy reached one that was refused (CVE-2022-36085).
func checkWith(c *ast.Compiler) *ast.Error {
	functions := map[string]bool{}
	for _, m := range c.Modules {
		for _, r := range m.Rules {
			if len(r.Head.Args) > 0 {
				functions[m.Package.Path.Extend(r.Head.Ref()).String()] = true
			}
		}
	}
	var found *ast.Error
	for _, file := range slices.Sorted(maps.Keys(c.Modules)) {
		ast.WalkExprs(c.Modules[file], func(e *ast.Expr) bool {
			for _, w := range e.With {
				if err := withTarget(w.Target, functions); err != nil && found == nil {
					found = ast.NewError(ast.CompileErr, cmp.Or(w.Target.Loc(), e.Loc()), "%v", err)
				}
			}
			return false
		})
	}
	return found
}

func withTarget(t *ast.Term, functions map[string]bool) error {
	ref, ok := t.Value.(ast.Ref)
	switch {
	case ok && ref[0].Equal(ast.InputRootDocument):
		return nil
	case !ok || !ref[0].Equal(ast.DefaultRootDocument) || functions[ref.String()]:
		return fmt.Errorf("with must not replace the function %v", t)
	case len(ref) == 1 || ref[1].Equal(ast.StringTerm(reserved)):
		return fmt.Errorf("with must not replace %v, which has the library", t)
	}
	return nil
}

// invalid is errors of the language as errors of the field, sorted.
func invalid(at *field.Path, errs ast.Errors) field.ErrorList {
	slices.SortFunc(errs, func(a, b *ast.Error) int {
		return cmp.Or(compareLocations(a.Location, b.Location), strings.Compare(a.Message, b.Message))
	})
	var out field.ErrorList
	for i, e := range errs {
		if i > 0 && e.Error() == errs[i-1].Error() {
			continue
		}
		message := e.Message
		if name, ok := strings.CutPrefix(message, "undefined function "); ok && refused[name] != "" {
			message = fmt.Sprintf("function %s is refused, since it %s", name, refused[name])
		}
		if l := e.Location; l != nil {
			message = fmt.Sprintf("%s:%d:%d: %s", l.File, l.Row, l.Col, message)
		}
		out = append(out, field.Invalid(at, field.OmitValueType{}, message))
	}
	return out
}

func compareLocations(a, b *ast.Location) int {
	if a == nil || b == nil {
		if a == b {
			return 0
		}
		if a == nil {
			return -1
		}
		return 1
	}
	return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Row, b.Row), cmp.Compare(a.Col, b.Col))
}

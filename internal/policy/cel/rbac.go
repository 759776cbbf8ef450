package cel

import (
	"slices"
	"strings"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/interpreter"
	rbacv1 "k8s.io/api/rbac/v1"
)

const allowsFunction = "rbac.allows"

// rbacLibrary is the function that policies in Rego have in data.sallyport.rbac.
func rbacLibrary(s *schema) []cel.EnvOption {
	return []cel.EnvOption{cel.Function(allowsFunction,
		cel.Overload("rbac_allows_rule_string_string_string",
			[]*cel.Type{s.byType[ruleType].cel, cel.StringType, cel.StringType, cel.StringType}, cel.BoolType,
			cel.FunctionBinding(func(args ...ref.Val) ref.Val { return allowed(args[0], args[1], args[2], args[3]) })))}
}

// allowance is a call of rbac.allows. What most policies consist of is called
// without a slice of arguments.
type allowance struct{ *call }

// Exec the call.
func (a *allowance) Exec(frame *interpreter.ExecutionFrame) ref.Val {
	var args arguments
	for i, x := range a.args {
		if args[i] = x.Exec(frame); types.IsUnknownOrError(args[i]) {
			return args[i]
		}
	}
	return allowed(args[0], args[1], args[2], args[3])
}

// Eval the call.
func (a *allowance) Eval(vars interpreter.Activation) ref.Val {
	return a.Exec(interpreter.AsFrame(vars))
}

func allowed(rule, verb, group, resource ref.Val) ref.Val {
	o, ok := rule.(*object)
	if !ok || o.rule == nil {
		return types.MaybeNoSuchOverloadErr(rule)
	}
	v, ok := verb.(types.String)
	g, ok2 := group.(types.String)
	r, ok3 := resource.(types.String)
	if !ok || !ok2 || !ok3 {
		return types.NoSuchOverloadErr()
	}
	return types.Bool(allows(o.rule, string(v), string(g), string(r)))
}

// allows reports whether a rule gives a verb on a resource, such as pods or
// pods/exec, to some object: Kubernetes' RuleAllows without the names of objects.
func allows(r *rbacv1.PolicyRule, verb, group, resource string) bool {
	return has(r.Verbs, verb, rbacv1.VerbAll) && has(r.APIGroups, group, rbacv1.APIGroupAll) &&
		(has(r.Resources, resource, rbacv1.ResourceAll) || hasSubresource(r.Resources, resource))
}

func has(list []string, word, all string) bool {
	return slices.Contains(list, word) || slices.Contains(list, all)
}

// hasSubresource reports whether */SUBRESOURCE is in the list.
func hasSubresource(list []string, resource string) bool {
	_, sub, ok := strings.Cut(resource, "/")
	return ok && sub != "" && slices.ContainsFunc(list, func(s string) bool {
		rest, ok := strings.CutPrefix(s, "*/")
		return ok && rest == sub
	})
}

package cel

import (
	"errors"
	"math/bits"
	"regexp"

	"github.com/google/cel-go/common/operators"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
)

const (
	// budget of one evaluation of a policy with all its variables and messages, in
	// steps of an expression, of which one takes some tens of nanoseconds: about as
	// long as Kubernetes gives the conditions of a webhook.
	budget = celconfig.RuntimeCELCostBudgetMatchConditions
	// maxEstimate is what an expression may be expected to cost, in Kubernetes' units.
	maxEstimate = celconfig.RuntimeCELCostBudget
	// cheap is what is not counted: the step itself has been.
	cheap = 16
	// textUnit is how much of a text is worth a step.
	textUnit = 16
	// cheapText is a text that is cheap to compare.
	cheapText = cheap * textUnit
	// maxText is the longest text that a policy may make.
	maxText = 1 << 20
	// never is a price that nobody can pay.
	never = ^uint64(0)
)

// errBudget is what a policy that asks for too much ends in. It is thrown, since an
// error that is returned could be swallowed by an or.
var errBudget = errors.New("the policy costs more than a policy may: make its loops or its texts smaller")

// meter is the name by which a step finds the evaluation that it is part of. It is
// no name that an expression could have.
const meter = "@meter"

func pay(frame *interpreter.ExecutionFrame, cost uint64) {
	if cost <= cheap {
		return
	}
	v, _ := frame.ResolveName(meter)
	e := v.(*evaluation)
	if e.spent = add(e.spent, cost); e.spent > budget {
		panic(errBudget)
	}
}

func add(a, b uint64) uint64 {
	n, carry := bits.Add64(a, b, 0)
	if carry != 0 {
		return never
	}
	return n
}

func multiply(a, b uint64) uint64 {
	high, n := bits.Mul64(a, b)
	if high != 0 {
		return never
	}
	return n
}

// weigh is what it costs to go through a value with all that is in it, or some
// number above the limit. It goes through what a policy made no further than that,
// and once through what is of the input.
func weigh(v ref.Val, limit uint64) uint64 {
	sum := uint64(1)
	switch v := v.(type) {
	case types.String:
		return 1 + uint64(len(v))/textUnit
	case types.Bytes:
		return 1 + uint64(len(v))/textUnit
	case types.Bool, types.Int, types.Uint, types.Double, types.Timestamp, types.Duration, types.Null, nil:
		return 1
	case *object:
		if v.weight == 0 {
			for _, f := range v.of.fields {
				if value := v.field(f); value != nil {
					sum = add(sum, weigh(value, never))
				}
			}
			v.weight = sum
		}
		return v.weight
	case *list:
		if v.weight == 0 {
			for _, e := range v.values {
				sum = add(sum, weigh(e, never))
			}
			v.weight = sum
		}
		return v.weight
	case *dict:
		if v.weight == 0 {
			for _, k := range v.keys {
				e, _ := v.Find(k)
				sum = add(sum, add(weigh(k, never), weigh(e, never)))
			}
			v.weight = sum
		}
		return v.weight
	case *types.Optional:
		if v.HasValue() {
			return add(sum, weigh(v.GetValue(), limit))
		}
	case traits.Lister:
		n, _ := v.Size().(types.Int)
		for i := types.Int(0); i < n && sum <= limit; i++ {
			sum = add(sum, 1+weigh(v.Get(i), limit-min(limit, sum)))
		}
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True && sum <= limit; {
			k := it.Next()
			e, _ := v.Find(k)
			// Maps take several times as long as lists.
			sum = add(sum, 6+add(weigh(k, limit), weigh(e, limit-min(limit, sum))))
		}
	}
	return sum
}

// arguments of a call, those after the fourth left out; nil where there are fewer.
// They are passed as they are, and not in a slice, since a slice would be an
// allocation for each call.
type arguments [4]ref.Val

// price of a call by its arguments.
type price func(args arguments) uint64

func priceOf(function string) price {
	if p, ok := prices[function]; ok {
		return p
	}
	return linear
}

// prices of what costs more, or less, than going through the arguments once.
var prices = map[string]price{
	operators.In:              membership,
	operators.Add:             addition,
	"cel.@mapInsert":          insertion,
	"size":                    free,
	"type":                    free,
	"dyn":                     free,
	"optional.of":             free,
	"optional.ofNonZeroValue": free,
	"hasValue":                free,
	"value":                   free,
	"rbac.allows":             free, // as many comparisons as a rule has words
	"sets.contains":           product,
	"sets.equivalent":         product,
	"sets.intersects":         product,
	"indexOf":                 product,
	"lastIndexOf":             product,
	"includes":                product,
	"distinct":                distinct,
	"sort":                    sorting,
	"@sortByAssociatedKeys":   sorting,
	"lists.range":             counting,
	"replace":                 replacement,
	"split":                   splitting,
	"join":                    joining,
	"format":                  formatting,
}

func free(arguments) uint64 { return 0 }

func linear(args arguments) uint64 {
	sum := uint64(0)
	for _, a := range args {
		if a != nil {
			sum = add(sum, weigh(a, budget))
		}
	}
	return sum
}

func membership(args arguments) uint64 {
	if _, ok := args[1].(traits.Mapper); ok {
		return 1
	}
	// Each element is compared with what is looked for, which ends where the shorter
	// one does.
	return weigh(args[1], budget)
}

// addition to the list that a comprehension collects in is paid for by what is
// added, which is a list that has been made for it.
func addition(args arguments) uint64 {
	if _, ok := args[0].(traits.MutableLister); ok {
		return weigh(args[1], budget)
	}
	return toMake(linear(args))
}

func insertion(args arguments) uint64 {
	if _, ok := args[0].(traits.MutableMapper); ok {
		return add(weigh(args[1], budget), weigh(args[2], budget))
	}
	return linear(args)
}

func product(args arguments) uint64 {
	n := uint64(1)
	for _, a := range args {
		if a != nil {
			n = multiply(n, weigh(a, budget))
		}
	}
	return n
}

func distinct(args arguments) uint64 {
	n := weigh(args[0], budget)
	return multiply(n, n)
}

func sorting(args arguments) uint64 {
	n := linear(args)
	return multiply(n, uint64(bits.Len64(n)))
}

func counting(args arguments) uint64 {
	n, _ := args[0].(types.Int)
	return uint64(max(n, 0))
}

// toMake is a price for making something of that weight: never, if that would be a
// text that is too long.
func toMake(weight uint64) uint64 {
	if weight > maxText/textUnit+2 {
		return never
	}
	return weight
}

func length(v ref.Val) uint64 {
	s, _ := v.(types.String)
	return uint64(len(s))
}

func replacement(args arguments) uint64 {
	if args[2] == nil {
		return linear(args)
	}
	times := length(args[0])/max(length(args[1]), 1) + 1
	return add(linear(args), toMake(multiply(times, length(args[2])+1)/textUnit))
}

func splitting(args arguments) uint64 {
	if args[1] == nil {
		return linear(args)
	}
	return add(linear(args), length(args[0])/max(length(args[1]), 1))
}

func joining(args arguments) uint64 {
	made := weigh(args[0], budget)
	if l, ok := args[0].(traits.Lister); ok && args[1] != nil {
		n, _ := l.Size().(types.Int)
		made = add(made, multiply(uint64(n), length(args[1]))/textUnit)
	}
	return toMake(made)
}

// formatting takes as many digits as the format asks for, and the format may ask for
// billions.
func formatting(args arguments) uint64 {
	format, _ := args[0].(types.String)
	if manyDigits.MatchString(string(format)) {
		return never
	}
	return toMake(linear(args))
}

var manyDigits = regexp.MustCompile(`%\.0*[0-9]{3}`)

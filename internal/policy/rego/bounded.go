package rego

import (
	"fmt"
	"maps"
	"regexp/syntax"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// What one call of a built-in function may be given. A deadline is looked at
// between calls and not in them, so a call has to be small by itself: each of these
// keeps one below some ten milliseconds and some ten megabytes.
const (
	maxNodes   = 1 << 16 // values in all operands, those in values counted wherever they stand
	maxText    = 1 << 18 // bytes of text in all operands
	maxGrowth  = 1 << 20 // bytes of the result, where it is longer than the operands
	maxDigits  = 512     // of a number
	maxRange   = 10_000  // numbers in a range
	maxWidth   = 1000    // of a verb of sprintf
	maxRegexp  = 1 << 10 // bytes of a regular expression, and instructions of its program
	maxMatch   = 1 << 21 // bytes of a text times bytes, or instructions, of what is looked for in it
	maxGlob    = 1 << 8  // bytes of a glob
	maxStars   = 8       // of a glob
	maxMatched = 1 << 12 // bytes of what a glob is matched with
)

// A bound says why a call is refused, or nil.
type bound func(operands []*ast.Term) error

// bounds of the built-in functions whose cost is not that of reading their
// operands once, or that read operands which a policy can make far greater in
// reading than in memory, by having parts stand in them many times.
var bounds = map[string]bound{
	"plus": numbers, "minus": numbers, "mul": numbers, "div": numbers, "rem": numbers, "abs": numbers, "ceil": numbers,
	"floor": numbers, "round": numbers, "bits.and": numbers, "bits.negate": numbers, "bits.or": numbers, "bits.rsh": numbers,
	"bits.xor": numbers, "format_int": numbers, "sum": numbers, "product": product, "bits.lsh": shift, "numbers.range": span,
	"to_number": numerals, "units.parse": numerals, "units.parse_bytes": numerals,

	"equal": either, "neq": either, "gt": either, "gte": either, "lt": either, "lte": either,
	"internal.member_2": either, "internal.member_3": member3,

	"array.concat": small, "array.flatten": small, "object.union": small, "object.union_n": small, "object.subset": small,
	"json.filter": small, "json.remove": small, "walk": small, "graph.reachable": small, "sort": small, "max": small, "min": small,
	"union": small, "intersection": small, "json.marshal": small, "json.unmarshal": small, "json.is_valid": small,
	"base64.encode": small, "base64.decode": small, "base64.is_valid": small, "base64url.encode": small,
	"base64url.encode_no_pad": small, "base64url.decode": small, "hex.encode": small, "hex.decode": small,
	"urlquery.encode": small, "urlquery.decode": small, "urlquery.encode_object": small, "urlquery.decode_object": small,
	"upper": small, "lower": small, "split": small, "strings.split_n": small, "strings.reverse": small,
	"strings.any_prefix_match": small, "strings.any_suffix_match": small, "internal.print": small,

	"indexof": squared, "indexof_n": squared, "trim": squared, "trim_left": squared, "trim_right": squared,
	"concat": joined, "replace": replaced, "strings.replace_n": replacedN, "sprintf": formatted,
	"regex.match": pattern(0, 1), "regex.split": pattern(0, 1), "regex.find_n": pattern(0, 1),
	"regex.find_all_string_submatch_n": pattern(0, 1), "regex.replace": regexReplaced, "regex.is_valid": small,
	"glob.match": globbed, "glob.quote_meta": small,
}

// bounded are the functions under bounds, by a name that no policy can spell.
var bounded = func() map[string]*topdown.Builtin {
	out := maps.Clone(guards)
	for name, check := range bounds {
		decl := *ast.BuiltinMap[name]
		decl.Name = boundedName(name)
		out[decl.Name] = &topdown.Builtin{Decl: &decl, Func: under(name, check, topdown.GetBuiltin(name))}
	}
	return out
}()

// under a bound, a function. What is refused halts the evaluation, since any other
// error leaves the expression undefined, and the rest of the policy goes on.
func under(name string, check bound, call topdown.BuiltinFunc) topdown.BuiltinFunc {
	return func(ctx topdown.BuiltinContext, operands []*ast.Term, iter func(*ast.Term) error) error {
		if err := check(operands); err != nil {
			return topdown.Halt{Err: &topdown.Error{
				Code: topdown.BuiltinErr, Message: fmt.Sprintf("%s: %v", name, err), Location: ctx.Location,
			}}
		}
		return call(ctx, operands, iter)
	}
}

func boundedName(name string) string { return name + "!" }

// bind has the calls of compiled modules go to the functions under bounds. It
// is done last, when no check of the compiler is left that knows functions by name.
func bind(c *ast.Compiler) *ast.Error {
	if err := guard(c); err != nil {
		return err
	}
	for _, m := range c.Modules {
		ast.WalkExprs(m, func(e *ast.Expr) bool {
			if !e.IsCall() {
				return false
			}
			terms := e.Terms.([]*ast.Term)
			if name := e.Operator().String(); bounds[name] != nil {
				terms[0] = &ast.Term{Value: ast.Ref{ast.VarTerm(boundedName(name))}, Location: terms[0].Location}
			}
			return false
		})
	}
	return nil
}

type weight struct{ nodes, text, most int }

// weigh values as far as the bounds.
func weigh(operands ...*ast.Term) (weight, error) {
	w := weight{most: maxNodes}
	for _, t := range operands {
		if !w.add(t.Value) {
			return w, fmt.Errorf("refused: more than %d values or %d bytes of text", maxNodes, maxText)
		}
	}
	return w, nil
}

func (w *weight) add(v ast.Value) bool {
	w.nodes++
	switch v := v.(type) {
	case ast.String:
		w.text += len(v)
	case ast.Number:
		w.text += len(v)
	case *ast.Array:
		if v.Until(w.heavy) {
			return false
		}
	case ast.Set:
		if v.Until(w.heavy) {
			return false
		}
	case ast.Object:
		if v.Until(func(k, v *ast.Term) bool { return w.heavy(k) || w.heavy(v) }) {
			return false
		}
	}
	return w.nodes <= w.most && (w.text <= maxText || w.most > maxNodes)
}

func (w *weight) heavy(t *ast.Term) bool { return !w.add(t.Value) }

func small(operands []*ast.Term) error {
	_, err := weigh(operands...)
	return err
}

// member3 compares a key and an element with those of a collection.
func member3(operands []*ast.Term) error {
	if weighed(operands[:1]) == nil && weighed(operands[1:2]) == nil {
		return nil
	}
	return weighed(operands[2:3])
}

func text(t *ast.Term) string {
	s, _ := t.Value.(ast.String)
	return string(s)
}

// grown refuses a result that is too long.
func grown(n int) error {
	if n > maxGrowth {
		return fmt.Errorf("refused: a result of more than %d bytes", maxGrowth)
	}
	return nil
}

// numbers in the operands, or in the collections that they are, have few digits.
func numbers(operands []*ast.Term) error {
	for _, t := range operands {
		if err := digits(t.Value); err != nil {
			return err
		}
	}
	return nil
}

func digits(v ast.Value) error {
	long := func(t *ast.Term) bool { n, ok := t.Value.(ast.Number); return ok && !short(string(n)) }
	var is bool
	switch v := v.(type) {
	case ast.Number:
		is = !short(string(v))
	case *ast.Array:
		is = v.Until(long)
	case ast.Set:
		is = v.Until(long)
	}
	if is {
		return fmt.Errorf("refused: a number of more than %d digits", maxDigits)
	}
	return nil
}

// short reports whether a numeral has few digits when it is written out.
func short(numeral string) bool {
	if len(numeral) > maxDigits {
		return false
	}
	e := strings.IndexAny(numeral, "eEpP")
	return e < 0 || len(strings.TrimLeft(numeral[e+1:], "+-0")) <= 2
}

// numerals in text have few digits.
func numerals(operands []*ast.Term) error {
	if s := text(operands[0]); s != "" {
		if len(s) > maxDigits {
			return fmt.Errorf("refused: a number of more than %d digits", maxDigits)
		}
		return digits(ast.Number(strings.TrimRight(s, "abcdfghijklmnoqrstuvwxyzABCDFGHIJKLMNOQRSTUVWXYZ")))
	}
	return numbers(operands)
}

// product of numbers that have few digits together.
func product(operands []*ast.Term) error {
	if err := numbers(operands); err != nil {
		return err
	}
	w, err := weigh(operands...)
	if err == nil && w.text > 1<<14 {
		err = fmt.Errorf("refused: more than %d digits", 1<<14)
	}
	return err
}

func shift(operands []*ast.Term) error {
	if n, ok := operands[1].Value.(ast.Number); ok {
		if by, ok := n.Int(); !ok || by > maxDigits {
			return fmt.Errorf("refused: a shift by more than %d bits", maxDigits)
		}
	}
	return numbers(operands)
}

func span(operands []*ast.Term) error {
	var of [2]int
	for i := range of {
		n, isNumber := operands[i].Value.(ast.Number)
		at, ok := n.Int()
		if isNumber && (!ok || at < -1<<31 || at > 1<<31) {
			return fmt.Errorf("refused: a range of more than %d numbers", maxRange)
		}
		of[i] = at
	}
	if d := of[1] - of[0]; d > maxRange || d < -maxRange {
		return fmt.Errorf("refused: a range of more than %d numbers", maxRange)
	}
	return nil
}

// squared: each byte of one may be compared with each of the other.
func squared(operands []*ast.Term) error {
	if err := small(operands); err != nil {
		return err
	}
	if len(text(operands[0]))*len(text(operands[1])) > maxMatch {
		return fmt.Errorf("refused: texts of %d and %d bytes", len(text(operands[0])), len(text(operands[1])))
	}
	return nil
}

func joined(operands []*ast.Term) error {
	w, err := weigh(operands...)
	if err != nil {
		return err
	}
	return grown(w.text + w.nodes*len(text(operands[0])))
}

func replaced(operands []*ast.Term) error {
	if err := small(operands); err != nil {
		return err
	}
	s, old, with := text(operands[0]), text(operands[1]), text(operands[2])
	return grown(len(s) + strings.Count(s, old)*len(with))
}

func replacedN(operands []*ast.Term) error {
	if err := small(operands); err != nil {
		return err
	}
	longest := 0
	if with, ok := operands[0].Value.(ast.Object); ok {
		with.Until(func(_, v *ast.Term) bool {
			longest = max(longest, len(text(v)))
			return false
		})
	}
	return grown((len(text(operands[1])) + 1) * (longest + 1))
}

// formatted: each verb may write all operands, in up to six bytes for one.
func formatted(operands []*ast.Term) error {
	w, err := weigh(operands...)
	if err != nil {
		return err
	}
	verbs, number := 0, 0
	in := false
	for _, r := range text(operands[0]) {
		switch {
		case r == '%':
			in, number = !in, 0
			verbs++
		case !in:
		case r == '*':
			return fmt.Errorf("refused: a width of *")
		case '0' <= r && r <= '9':
			if number = number*10 + int(r-'0'); number > maxWidth {
				return fmt.Errorf("refused: a width of more than %d", maxWidth)
			}
		case strings.ContainsRune("+-# .[]", r):
			number = 0
		default:
			in = false
		}
	}
	if err := numbers(arrayOf(operands[1])); err != nil {
		return err
	}
	of := w.text - len(text(operands[0])) + 2*w.nodes
	return grown(len(text(operands[0])) + verbs*(maxWidth+6*of)/6)
}

func arrayOf(t *ast.Term) []*ast.Term {
	a, ok := t.Value.(*ast.Array)
	if !ok {
		return nil
	}
	out := make([]*ast.Term, 0, a.Len())
	a.Foreach(func(t *ast.Term) { out = append(out, t) })
	return out
}

// pattern is a regular expression that is matched with a text.
func pattern(expression, matched int) bound {
	return func(operands []*ast.Term) error {
		if err := small(operands); err != nil {
			return err
		}
		size, err := instructions(text(operands[expression]))
		if err != nil {
			return err
		}
		if size*len(text(operands[matched])) > maxMatch {
			return fmt.Errorf("refused: a text of %d bytes for an expression of %d instructions", len(text(operands[matched])), size)
		}
		return nil
	}
}

func regexReplaced(operands []*ast.Term) error {
	if err := pattern(1, 0)(operands); err != nil {
		return err
	}
	return grown((len(text(operands[0])) + 1) * (len(text(operands[2])) + 1))
}

// instructions is about the size of the program of a regular expression. An
// expression that cannot be read is left to the function.
func instructions(expression string) (int, error) {
	if len(expression) > maxRegexp {
		return 0, fmt.Errorf("refused: an expression of more than %d bytes", maxRegexp)
	}
	if !strings.Contains(expression, "{") {
		return 2*len(expression) + 2, nil
	}
	re, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return 0, nil //nolint:nilerr // the function says so
	}
	size := sizeOf(re)
	if size > maxRegexp {
		return 0, fmt.Errorf("refused: an expression of more than %d instructions", maxRegexp)
	}
	return size, nil
}

func sizeOf(re *syntax.Regexp) int {
	size := 2 + len(re.Rune)
	if re.Op == syntax.OpCharClass {
		size = 2 // one instruction, whatever is in the class
	}
	for _, sub := range re.Sub {
		size += sizeOf(sub)
	}
	if re.Op == syntax.OpRepeat {
		size *= max(re.Min, re.Max, 1)
	}
	return min(size, 2*maxRegexp)
}

// globbed: the matcher of globs goes back at each star.
func globbed(operands []*ast.Term) error {
	if err := small(operands); err != nil {
		return err
	}
	glob, matched := text(operands[0]), text(operands[2])
	switch {
	case len(glob) > maxGlob:
		return fmt.Errorf("refused: a glob of more than %d bytes", maxGlob)
	case strings.Count(strings.ReplaceAll(glob, "**", "*"), "*")+strings.Count(glob, "{") > maxStars:
		return fmt.Errorf("refused: a glob of more than %d stars and alternatives", maxStars)
	case len(matched) > maxMatched:
		return fmt.Errorf("refused: a text of more than %d bytes for a glob", maxMatched)
	}
	return nil
}

package rego_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// chain of rules, each of which has the one before it twice.
func chain(name string, n int, of string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s0 := input.version\n\n", name)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "%s%d := %s\n\n", name, i, strings.ReplaceAll(of, "$", fmt.Sprintf("%s%d", name, i-1)))
	}
	return b.String()
}

const (
	twice = "[$, $]"
	// looped is twice without the compiler knowing: its type is an array of anything.
	looped = "[$ | some _ in [1, 2]]"
	joined = `concat("", [$, $])`
	both   = "array.concat($, $)"
)

// neverCompiled are modules that are refused for what they are.
var neverCompiled = map[string]struct{ source, err string }{
	"Recursion":     {"a if b\n\nb if a\n\ndeny contains \"a\" if a\n", "rego_recursion_error: rule data.p.a is recursive|is recursive"},
	"SelfRecursion": {"f(x) := f(x)\n\ndeny contains f(1)\n", "is recursive"},
	"Types":         {chain("x", 40, twice) + chain("y", 40, twice) + "deny contains \"a\" if x40 == y40\n", "has at most 10000 parts"},
	"LocalTypes": {"deny contains \"a\" if {\n" + strings.ReplaceAll(chain("x", 40, twice), "\n\n", "\n") + "x40 == 1\n}\n",
		"has at most 10000 parts"},
	"Nesting": {"deny contains \"a\" if x == " + strings.Repeat("[", 50_000) + strings.Repeat("]", 50_000) + "\n", "nested more than 200 deep"},
	"Length":  {"# " + strings.Repeat("x", 1<<18) + "\n", "at most 262144 bytes"},

	"Number": {"deny contains \"a\" if 1e1000000000 > 1\n", "number too big"},

	"SameArgument": {"f(a, a) if a\n\ndeny contains \"a\" if f(1, 1)\n", "an argument must not be named twice"},

	"HTTP":        {`deny contains "a" if http.send({"method": "get", "url": "http://127.0.0.1:1"})` + "\n", "function http.send is refused, since it reaches the network"},
	"DNS":         {`deny contains "a" if net.lookup_ip_addr("localhost")` + "\n", "function net.lookup_ip_addr is refused"},
	"Schema":      {`deny contains "a" if json.match_schema({}, {"$ref": "http://127.0.0.1:1"})[0]` + "\n", "function json.match_schema is refused"},
	"Clock":       {`deny contains "a" if time.now_ns() > 0` + "\n", "function time.now_ns is refused"},
	"Random":      {`deny contains "a" if rand.intn("a", 2) == 1` + "\n", "function rand.intn is refused"},
	"UUID":        {`deny contains uuid.rfc4122("a")` + "\n", "function uuid.rfc4122 is refused"},
	"Runtime":     {`deny contains opa.runtime().env.HOME` + "\n", "function opa.runtime is refused"},
	"Token":       {`deny contains "a" if io.jwt.decode("a")` + "\n", "function io.jwt.decode is refused"},
	"AWS":         {`deny contains "a" if providers.aws.sign_req({}, {}, 1)` + "\n", "function providers.aws.sign_req is refused"},
	"Expand":      {`deny contains "a" if count(net.cidr_expand("0.0.0.0/0")) > 1` + "\n", "function net.cidr_expand is refused"},
	"Paths":       {`deny contains "a" if graph.reachable_paths({}, [])` + "\n", "function graph.reachable_paths is refused"},
	"Template":    {"deny contains $\"a {input.version}\"\n", "template string"},
	"Import":      {"import future.keywords.not\n\ndeny contains \"a\"\n", "unexpected keyword"},
	"Version":     {"import rego.v2\n\ndeny contains \"a\"\n", "v2"},
	"OldRego":     {"deny[x] { x := 1 }\n", "`if` keyword is required"},
	"Bounded":     {"deny contains sprintf!(\"%d\", [1])\n", "illegal ! character"},
	"WithBuiltin": {"deny contains \"a\" if count([1]) == 2 with count as 2\n", "with must not replace the function count"},
	"WithRefused": {"f(_) := {\"status_code\": 200}\n\ndeny contains \"a\" if f(1) with http.send as f\n", "with must not replace the function http.send"},
	"WithByRefused": {"f(_) := 1\n\ndeny contains \"a\" if f({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"}) with f as http.send\n",
		"with must not replace the function data.p.f"},
	"WithCount": {"deny contains \"a\" if count({\"method\": \"get\", \"url\": \"http://127.0.0.1:1\"}) with count as http.send\n",
		"with must not replace the function count"},
	"WithFunction": {"f(_) := 1\n\ndeny contains \"a\" if f(1) == 2 with data.p.f as 2\n", "with must not replace the function data.p.f"},
	"WithLibrary": {"import data.sallyport.rbac\n\ndeny contains \"a\" if not rbac.allows({}, \"get\", \"\", \"pods\") with rbac.allows as true\n",
		"with must not replace the function data.sallyport.rbac.allows"},
	"WithAllOfLibrary": {"deny contains \"a\" if input.version with data.sallyport as {}\n", "with must not replace data.sallyport"},
	"WithAllData":      {"deny contains \"a\" if input.version with data as {}\n", "with must not replace data"},
}

// TestNeverCompiled: S20, S21, S22. What is refused is refused before it runs, and
// with its place.
func TestNeverCompiled(t *testing.T) {
	for name, tc := range neverCompiled {
		t.Run(name, func(t *testing.T) {
			c, errs := rego.Compile(spec, rego.Policy{Modules: map[string]string{"p.rego": "package p\n\n" + tc.source}, Main: "p.rego"}, rego.Options{})
			if c != nil || len(errs) == 0 {
				t.Fatal("it compiles")
			}
			want := strings.Split(tc.err, "|")
			if got := errs.ToAggregate().Error(); !strings.Contains(got, want[len(want)-1]) || !strings.Contains(got, "p.rego:") {
				t.Errorf("error %s\nwant %s, with file, line and column", got, tc.err)
			}
		})
	}
}

// cutOff are policies that are refused when they run.
var cutOff = map[string]struct{ source, err string }{
	"Loops":         {"n := numbers.range(1, 10000)\n\ndeny contains \"a\" if {\nsome a in n\nsome b in n\nsome c in n\na + b + c == 0\n}\n", "deadline"},
	"Comprehension": {"n := numbers.range(1, 10000)\n\nall := [[a, b] |\nsome a in n\nsome b in n\n]\n\ndeny contains \"a\" if count(all) == 0\n", "deadline"},
	"Set":           {"n := numbers.range(1, 10000)\n\ndeny contains sprintf(\"%d %d\", [a, b]) if {\nsome a in n\nsome b in n\n}\n", "deadline"},
	"Union":         {"n := numbers.range(1, 10000)\n\nall := {sprintf(\"%d\", [a * b]): b |\nsome a in n\nsome b in n\n}\n\ndeny contains \"a\" if all.x\n", "deadline|conflict"},
	"Every":         {"n := numbers.range(1, 10000)\n\ndeny contains \"a\" if {\nevery a in n {\nevery b in n {\na + b > 0\n}\n}\n}\n", "deadline"},
	"Walk":          {chain("x", 40, looped) + "deny contains \"a\" if walk(x40, [_, \"x\"])\n", "walk: refused"},

	"Range":          {`deny contains "a" if count(numbers.range(1, 1000000000)) == 1` + "\n", "numbers.range: refused"},
	"RangeDown":      {`deny contains "a" if count(numbers.range(1000000000, -1000000000)) == 1` + "\n", "numbers.range: refused"},
	"RangeFar":       {`deny contains "a" if count(numbers.range(-99999999999999999999, 99999999999999999999)) == 1` + "\n", "numbers.range: refused"},
	"Width":          {`deny contains sprintf("%1000000000d", [1])` + "\n", "sprintf: refused: a width"},
	"Precision":      {`deny contains sprintf("%.1000000000f", [1.5])` + "\n", "sprintf: refused: a width"},
	"StarWidth":      {`deny contains sprintf("%*d", [1000000000, 1])` + "\n", "sprintf: refused: a width"},
	"IndexedWidth":   {`deny contains sprintf("%[1]*[2]d", [1000000000, 1])` + "\n", "sprintf: refused: a width"},
	"SameArgument":   {chain("s", 14, joined) + `deny contains sprintf("` + strings.Repeat("%[1]s", 200) + `", [s14])` + "\n", "sprintf: refused"},
	"Doubling":       {chain("s", 40, joined) + "deny contains s40\n", "concat: refused"},
	"Replacing":      {chain("s", 40, `replace($, "v", "vvvvvvvvvvvvvvvvvvvvv")`) + "deny contains s40\n", "replace: refused"},
	"ReplacingN":     {chain("s", 40, `strings.replace_n({"v": "vvvvvvvvvvvvvvvvvvvvv"}, $)`) + "deny contains s40\n", "strings.replace_n: refused"},
	"Separator":      {chain("s", 14, joined) + "deny contains concat(s14, [s | some s in [\"a\"]; some _ in numbers.range(1, 9999)])\n", "concat: refused"},
	"Arrays":         {"x0 := [1]\n\n" + strings.Replace(chain("x", 40, both), "x0 := input.version\n\n", "", 1) + "deny contains \"a\" if count(x40) == 1\n", "array.concat: refused"},
	"Marshal":        {chain("x", 40, looped) + "deny contains json.marshal(x40)\n", "json.marshal: refused"},
	"Format":         {chain("x", 40, looped) + "deny contains sprintf(\"%v\", [x40])\n", "sprintf: refused"},
	"Merge":          {chain("x", 40, `{k: $ | some k in ["a", "b"]}`) + "deny contains \"a\" if object.union(x40, {\"a\": x39}).x\n", "object.union: refused"},
	"MergeN":         {chain("x", 40, `{k: $ | some k in ["a", "b"]}`) + "deny contains \"a\" if object.union_n([x40, x39]).x\n", "object.union_n: refused"},
	"Sort":           {chain("x", 40, looped) + chain("y", 40, looped) + "deny contains \"a\" if sort([x40, y40])[0] == 1\n", "sort: refused"},
	"Unmarshal":      {chain("s", 20, joined) + "deny contains \"a\" if json.unmarshal(s20)\n", "refused"},
	"Regexp":         {`deny contains "a" if regex.match("((a{100}){100}){100}", "aaaa")` + "\n", "regex.match: "},
	"LongRegexp":     {chain("s", 10, joined) + "deny contains \"a\" if regex.match(s10, \"a\")\n", "regex.match: refused"},
	"RegexpOnText":   {chain("s", 14, joined) + `deny contains "a" if regex.match("(.*.*.*.*.*.*.*)*x{9}(a|b|c|d)*$", s14)` + "\n", "regex.match: refused"},
	"RegexReplacing": {chain("s", 14, joined) + `deny contains regex.replace(s14, ".", "$0$0$0$0$0$0$0$0$0$0$0$0$0")` + "\n", "regex.replace: refused"},
	"BadRegexp":      {`deny contains "a" if regex.match("(", input.version)` + "\n", "error parsing regexp"},
	"BadRegexpCount": {`deny contains "a" if regex.match("a{9999}{", input.version)` + "\n", "error parsing regexp"},
	"Glob":           {`deny contains "a" if glob.match("*a*a*a*a*a*a*a*a*a*a*b", [], "` + strings.Repeat("a", 5000) + `")` + "\n", "glob.match: refused"},
	"GlobBraces":     {`deny contains "a" if glob.match("` + strings.Repeat("{a,b}", 30) + `", [], "a")` + "\n", "glob.match: refused"},
	"Split":          {chain("s", 16, joined) + "deny contains \"a\" if count(split(s16, \"\")) == 1\n", "refused"},
	"Square":         {"x0 := 1234567890\n\n" + strings.Replace(chain("x", 40, "$ * $"), "x0 := input.version\n\n", "", 1) + "deny contains \"a\" if x40 == 1\n", "mul: refused"},
	"Shift":          {`deny contains "a" if bits.lsh(1, 10000000000) == 1` + "\n", "bits.lsh: refused"},
	"Exponent":       {`deny contains "a" if floor(1e10000) == 1` + "\n", "floor: refused"},
	"ExponentText":   {`deny contains "a" if to_number("1e1000000000") + 1 == 1` + "\n", "to_number: refused"},
	"ExponentJSON":   {`deny contains "a" if json.unmarshal("1e1000000000") + 1 == 1` + "\n", "refused|cannot"},
	"ExponentUnits":  {`deny contains "a" if units.parse("1e1000000000") == 1` + "\n", "units.parse: refused"},
	"ExponentBytes":  {`deny contains "a" if units.parse_bytes("1e1000000000MB") == 1` + "\n", "units.parse_bytes: refused"},
	"Product":        {"n := numbers.range(1, 9999)\n\ndeny contains \"a\" if product([x | some i in n; x := 1000000000 + i]) == 1\n", "product: refused"},
	"Trim":           {chain("s", 14, joined) + "deny contains trim(s14, s14)\n", "trim: refused"},
	"Index":          {chain("s", 14, joined) + "deny contains \"a\" if indexof(concat(\"\", [s14, \"é\"]), s13) == 1\n", "indexof: refused"},
	"SetEqual":       {chain("x", 26, looped) + chain("y", 26, looped) + "deny contains \"a\" if count({x26, y26}) == 1\n", "deadline"},
	"NotEqual":       {chain("x", 40, looped) + chain("y", 40, looped) + "deny contains \"a\" if x40 != y40\n", "neq: refused"},
	"In":             {chain("x", 40, looped) + chain("y", 40, looped) + "deny contains \"a\" if x40 in [y40]\n", "internal.member_2: refused"},
	"Pattern":        {chain("x", 40, looped) + chain("y", 40, looped) + "deny contains \"a\" if {\nx := x40\n[_, x] = [1, y40]\n}\n", "unification: refused"},
	"KeyedPattern":   {chain("x", 40, looped) + "n := [1, x40]\n\nm := [[x] | some x in n]\n\ndeny contains \"a\" if {\nx := x40\nsome i\nm[i] = [x]\n}\n", "equal: refused"},
	"Key":            {chain("x", 40, looped) + chain("y", 40, looped) + "s contains k if k := y40\n\nt contains k if {\ny := y40\nk = y\n}\n\ndeny contains \"a\" if {\nx := x40\nt[x]\n}\n", "unification: refused"},
	"Argument":       {chain("x", 40, looped) + chain("y", 40, looped) + "f(a, b) if a == b\n\ndeny contains \"a\" if f(x40, y40)\n", "equal: refused"},
	"Equal2":         {chain("x", 40, looped) + chain("y", 40, looped) + "deny contains \"a\" if not x40 == y40\n", "equal: refused"},
	"Objects":        {chain("x", 40, looped) + "o[k] := x40 if some k in numbers.range(1, 3)\n\np[k] := x40 if some k in numbers.range(1, 3)\n\ndeny contains \"a\" if o == p\n", "equal: refused"},
	"Equal":          {chain("x", 26, looped) + chain("y", 26, looped) + "deny contains \"a\" if x26 == y26\n", "equal: refused"},
}

// deadlineFor a policy that ends with an error: short where it is the deadline.
func deadlineFor(err string) time.Duration {
	if strings.Contains(err, "deadline") {
		return 50 * time.Millisecond
	}
	return 0
}

// TestCutOff: S22. A hostile policy ends with an error, in time, without a panic,
// and does not change what others answer.
func TestCutOff(t *testing.T) {
	good := compile(t, noExec, rego.Options{})
	want, err := good.Check(grantInput())
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range cutOff {
		t.Run(name, func(t *testing.T) {
			c := compile(t, "package p\n\n"+tc.source, rego.Options{Deadline: deadlineFor(tc.err)})
			got, err := c.Check(grantInput())
			if err == nil {
				t.Fatalf("it answers %v", got)
			}
			found := strings.Contains(err.Error(), "panic")
			if found {
				t.Fatal(err)
			}
			for _, want := range strings.Split(tc.err, "|") {
				found = found || strings.Contains(err.Error(), want)
			}
			if !found {
				t.Errorf("error %v, want one with %s", err, tc.err)
			}
			j := guardrail.NewSet([]*guardrail.Guardrail{
				{Name: "good", Points: guardrail.GrantPoints, Check: good},
				{Name: "hostile", Points: guardrail.GrantPoints, Check: c},
			}, nil, guardrail.Options{}).Judge(guardrail.Compile, grantInput())
			if len(j.Reasons) != 2 || j.Reasons[0].Message != want[0].Message || !j.Reasons[1].Failed {
				t.Errorf("beside it, others answer %+v", j.Reasons)
			}
		})
	}
}

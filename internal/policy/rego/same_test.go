package rego_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/open-policy-agent/opa/v1/ast"
	oparego "github.com/open-policy-agent/opa/v1/rego"

	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

// TestSame compares with what OPA itself makes of a policy and the JSON of the
// input: the bounds change nothing that is within them.
func TestSame(t *testing.T) {
	const helpers = `
n := {"a": {"x": 1, "l": [1, 2]}, "b": {"x": 2, "l": [1, 2]}, "c": {"l": []}}

s contains [k, v.x] if some k, v in n

o[k] := v.l if some k, v in n

f(a, [b, _]) := a if a == b

g(a) := b if [_, b] = a

pairs := [[1, 1], [1, 2], [2, 1], ["a", "a"]]

`
	bodies := []string{
		`some i, j; n[i].l == n[j].l; m := [i, j]`,
		`some i, j; n[i].l != n[j].l; m := [i, j]`,
		`some i; n[i].x == input.nothing; m := i`,
		`some i in ["a", "b", "c"]; not n[i].x == input.nothing; m := i`,
		`some i in ["a", "b", "c"]; not n[i].x == n.a.x; m := i`,
		`some i in ["a", "b", "c"]; not n.a.x == n[i].x; m := i`,
		`some i in ["a", "b", "c"]; not n[i].l == n.a.l; m := i`,
		`some i in [1]; not input.nothing == input.nowhere; m := i`,
		`some i in [1]; not input.version == data.p.n.a; m := i`,
		`some p in pairs; [a, a] = p; m := a`,
		`some p in pairs; p[0] == p[1]; m := p`,
		`some p in pairs; not p[0] == p[1]; m := p`,
		`some p in pairs; x := p[0]; [x, y] = p; m := y`,
		`some p in pairs; x := p[0]; [_, x] = p; m := x`,
		`some p in pairs; x := p[1]; {"k": [x, z]} = {"k": p}; m := z`,
		`x := n.a.x; s[["a", x]]; m := x`,
		`x := 2; some k; s[[k, x]]; m := k`,
		`some k; o[k] == [1, 2]; m := k`,
		`some k; x := o[k]; some l; x = o[l]; m := [k, l]`,
		`some p in pairs; m := f(p[0], p)`,
		`some p in pairs; m := g(p)`,
		`some p in pairs; g(p) == p[0]; m := p`,
		`some p in pairs; not g(p) == p[0]; m := p`,
		`m := [x | some p in pairs; [x, x] = p]`,
		`m := {x: y | some p in pairs; p[0] == 1; [x, y] = [p[1], p]}`,
		`every p in pairs { p[0] == p[1] }; m := "every"`,
		`every p in [[1, 1]] { p[0] == p[1]; x := p[0]; [x, _] = p }; m := "every"`,
		`walk(n, [path, 2]); m := path`,
		`x := [1, 2]; walk(n, [path, x]); m := path`,
		`some c in input.clusters; c.labels == input.namespace.labels; m := c.name`,
		`some c in input.clusters; not c.labels == input.namespace.labels; m := c.name`,
		`x := input.version; x == input.version with input.version as "w"; m := x`,
		`x := "w"; x == input.version with input.version as "w"; m := x`,
		`x := "w"; not x == input.version with input.version as "w"; m := x`,
		`x := "v"; not x == input.version with input.version as "w"; m := x`,
		`not data.p.n.a == data.p.n.b with data.q as 1; m := 1`,
		`x = [1, y]; [z, y] = [1, 2]; m := [x, z]`,
		`count([1 | some p in pairs; p == [1, 1]]) == count([1 | some p in pairs; p = [1, 1]]); m := 1`,
		`1 in pairs[_]; m := 1`,
		`[1, 2] in pairs; m := 1`,
		`0, [1, 1] in pairs; m := 1`,
		`n.a.x < n.b.x; n.b.x >= n.a.x; n.a.l <= n.b.l; not n.a.l > n.b.l; m := 1`,
		`m := sprintf("%d %s %v %5.2f|%-4d|%%", [1, "a", [1, {"b": 2}], 1.5, 7])`,
		`m := replace(concat("-", ["a", "b"]), "-", "--")`,
		`m := sum([1, 2.5, n.a.x]) * 3 - max(n.a.l) / 2`,
		`m := regex.find_n("[a-z]{2,3}", "abcdefgh", -1)`,
		`m := json.unmarshal(json.marshal(object.union(n.a, {"x": [1e2]})))`,
		`m := time.weekday(time.parse_rfc3339_ns(input.now))`,
		`m := indexof("añb", "b") + strings.count("aaa", "a")`,
		`m := [array.concat([1], pairs), sort(pairs), union({{1}, {2}})]`,
		`m := [x | some x in numbers.range(3, -3)]`,
		`m := [glob.match("*.a", ["."], "b.a"), units.parse_bytes("1KiB"), to_number("1e3"), bits.lsh(1, 5)]`,
	}
	in := grantInput()
	raw, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var document map[string]any
	if err := json.Unmarshal(raw, &document); err != nil {
		t.Fatal(err)
	}
	document["parameters"] = map[string]any{}
	for _, body := range bodies {
		source := "package p\n" + helpers + "deny contains json.marshal(m) if {\n" + body + "\n}\n"
		module := ast.MustParseModuleWithOpts(source, ast.ParserOptions{RegoVersion: ast.RegoV1})
		rs, err := oparego.New(oparego.Query("data.p.deny"), oparego.ParsedModule(module), oparego.Input(document)).Eval(context.Background())
		if err != nil {
			t.Errorf("%s\n%v", body, err)
			continue
		}
		want := []string{}
		for _, m := range rs[0].Expressions[0].Value.([]any) {
			want = append(want, fmt.Sprint(m))
		}
		slices.Sort(want)
		said, err := compile(t, source, rego.Options{}).Check(in)
		if err != nil {
			t.Errorf("%s\n%v", body, err)
			continue
		}
		got := []string{}
		for _, v := range said {
			got = append(got, v.Message)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s\n(-opa +rego):\n%s", body, diff)
		}
	}
}

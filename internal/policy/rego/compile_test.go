package rego_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy/rego"
)

func TestCompileErrors(t *testing.T) {
	one := func(source string) rego.Policy {
		return rego.Policy{Modules: map[string]string{"p.rego": source}, Main: "p.rego"}
	}
	tests := map[string]struct {
		reason string
		policy rego.Policy
		want   []string
	}{
		"Syntax": {
			"A place in the source.", one("package p\n\ndeny contains \"a\" if {\n"),
			[]string{"p.rego:4:0: unexpected eof token"},
		},
		"All": {
			"Each error is told, in the order of the source.",
			rego.Policy{Main: "b.rego", Modules: map[string]string{
				"b.rego": "package b\n\ndeny contains x\n\ndeny contains y\n",
				"a.rego": "package a\n\nf(_) := z\n",
			}},
			[]string{"a.rego:3:9: var z is unsafe", "b.rego:3:15: var x is unsafe", "b.rego:5:15: var y is unsafe"},
		},
		"Types": {
			"Types are checked.", one("package p\n\ndeny contains \"a\" if count(1) == 1\n"),
			[]string{"p.rego:3:22: count: invalid argument(s)"},
		},
		"UnusedImport": {
			"As strict as opa check --strict.", one("package p\n\nimport data.sallyport.rbac\n\ndeny contains \"a\"\n"),
			[]string{"p.rego:3:1: import data.sallyport.rbac unused"},
		},
		"UnusedVariable": {
			"As above.", one("package p\n\ndeny contains \"a\" if x := 1\n"),
			[]string{"p.rego:3:22: assigned var x unused"},
		},
		"UnusedArgument": {
			"As above.", one("package p\n\nf(x) := 1\n\ndeny contains \"a\" if f(1)\n"),
			[]string{"p.rego:3:1: unused argument x"},
		},
		"Shadowed": {
			"As above.", one("package p\n\ninput := 1\n\ndeny contains \"a\" if input\n"),
			[]string{"p.rego:3:1: rules must not shadow input"},
		},
		"Deprecated": {
			"A function that is deprecated is refused.", one("package p\n\ndeny contains \"a\" if any([true])\n"),
			[]string{"p.rego:3:22: function any is refused, since it is deprecated"},
		},
		"Undefined": {
			"A function that does not exist.", one("package p\n\ndeny contains \"a\" if nothing(1)\n"),
			[]string{"p.rego:3:22: undefined function nothing"},
		},
		"NoDeny": {
			"A policy that cannot object would be passed by all.", one("package p\n\nallow if input.grant\n"),
			[]string{"package p has no rule deny"},
		},
		"CompleteDeny": {
			"A policy of another convention would be passed by all.", one("package p\n\ndeny if input.grant\n"),
			[]string{"p.rego:3:1: deny must be a set"},
		},
		"ValueDeny":    {"As above.", one("package p\n\ndeny := {\"a\"}\n"), []string{"p.rego:3:1: deny must be a set"}},
		"FunctionDeny": {"As above.", one("package p\n\ndeny(x) if x\n"), []string{"p.rego:3:1: deny must be a set"}},
		"ObjectDeny":   {"As above.", one("package p\n\ndeny[x] := 1 if x := input.version\n"), []string{"p.rego:3:1: deny must be a set"}},
		"NestedDeny":   {"As above.", one("package p\n\ndeny.exec contains \"a\"\n"), []string{"p.rego:3:1: deny must be a set"}},
		"NoMain":       {"The file has to be there.", rego.Policy{Modules: map[string]string{"a.rego": "package a\n"}, Main: "p.rego"}, []string{"there is no module p.rego"}},
		"NoPackage":    {"The package has to be there.", rego.Policy{Modules: map[string]string{"a.rego": "package a\n"}, Package: "data.p"}, []string{"package p has no rule deny"}},
		"Empty":        {"There has to be something.", one(""), []string{"p.rego:1:1: empty module"}},
		"LibraryPackage": {
			"S21: the library is not to be added to.", one("package sallyport.rbac\n\nallows(_, _, _, _) := true\n\ndeny contains \"a\"\n"),
			[]string{"p.rego:1:1: package sallyport is of the library"},
		},
		"LibraryByHead": {
			"As above.", rego.Policy{Modules: map[string]string{"p.rego": "package p\n\ndeny contains \"a\"\n", "s.rego": "package sallyport\n\nrbac.x := 1\n"}, Main: "p.rego"},
			[]string{"s.rego:1:1: package sallyport is of the library"},
		},
		"LibraryData": {
			"As above.", rego.Policy{Modules: map[string]string{"p.rego": "package p\n\ndeny contains \"a\"\n"}, Main: "p.rego", Data: map[string]any{"sallyport": 1}},
			[]string{"data.sallyport is the library"},
		},
		"DataConflict": {
			"Data and rules of one name are an error, as in OPA.",
			rego.Policy{Modules: map[string]string{"p.rego": "package p\n\ndeny contains \"a\"\n"}, Main: "p.rego", Data: map[string]any{"p": map[string]any{"deny": []any{}}}},
			[]string{"p.rego:3:1: conflicting rule for data path p/deny found"},
		},
		"Tests": {
			"A module of tests is no policy.", rego.Policy{Modules: map[string]string{"p_test.rego": "package p\n\ndeny contains \"a\"\n"}, Main: "p_test.rego"},
			[]string{"there is no module p_test.rego"},
		},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c, errs := rego.Compile(spec, tc.policy, rego.Options{})
			if c != nil {
				t.Errorf("%s It compiles.", tc.reason)
			}
			var got []string
			for i, e := range errs {
				if e.Field != spec.String() || e.Type != field.ErrorTypeInvalid {
					t.Errorf("error %v", e)
				}
				if i < len(tc.want) && strings.HasPrefix(e.Detail, tc.want[i]) {
					e.Detail = tc.want[i]
				}
				got = append(got, e.Detail)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n(-want +got):\n%s", tc.reason, diff)
			}
		})
	}
}

// TestModules: packages of one bundle share what is compiled, data and helpers.
func TestModules(t *testing.T) {
	modules := map[string]string{
		"a/a.rego":      "package guardrails.a\n\nimport data.helpers\n\ndeny contains \"a\" if helpers.frozen\n",
		"a/a_test.rego": "package guardrails.a_test\n\nimport data.guardrails.a\n\ntest_a if \"a\" in a.deny with http.send as 1\n",
		"b/b.rego":      "package guardrails.b\n\ndeny contains sprintf(\"%d of %d\", [count(input.clusters), input.parameters.most]) if count(input.clusters) > input.parameters.most\n",
		"h.rego":        "package helpers\n\nfrozen if data.settings.frozen\n",
	}
	b, errs := rego.CompileModules(spec, modules, map[string]any{"settings": map[string]any{"frozen": true}}, rego.Options{})
	if len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	want := []string{"data.guardrails.a", "data.guardrails.b"}
	if diff := cmp.Diff(want, b.Packages()); diff != "" {
		t.Error(diff)
	}
	packages, err := rego.Packages(modules)
	if diff := cmp.Diff(want, packages); diff != "" || err != nil {
		t.Error(diff, err)
	}
	if _, err := rego.Packages(map[string]string{"a.rego": "nothing"}); err == nil {
		t.Error("what cannot be read has packages")
	}
	in := grantInput()
	for name, tc := range map[string]struct {
		parameters map[string]any
		want       string
	}{
		"data.guardrails.a": {nil, "a"},
		"data.guardrails.b": {map[string]any{"most": 0}, "1 of 0"},
	} {
		c, errs := b.Check(spec, name, tc.parameters)
		if len(errs) > 0 {
			t.Fatal(errs.ToAggregate())
		}
		if got, err := c.Check(in); err != nil || len(got) != 1 || got[0].Message != tc.want {
			t.Errorf("%s says %v, %v", name, got, err)
		}
	}
}

// TestConcurrent: one Check, one fleet, many goroutines.
func TestConcurrent(t *testing.T) {
	c := compile(t, noExec, rego.Options{})
	cluster := &guardrail.Cluster{Name: "prod", Labels: map[string]string{"env": "prod", "b": "1", "a": "2"}}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 50 {
				in := grantInput()
				in.Clusters = []*guardrail.Cluster{cluster, {Name: fmt.Sprint(i), Labels: map[string]string{"env": "dev"}}}
				got, err := c.Check(in)
				if err != nil || len(got) != 1 || got[0].Message != "exec on prod" {
					t.Errorf("%v, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// slow is a policy that takes longer than any deadline where the reason says so.
const slow = `package p

n := numbers.range(1, 10000)

deny contains "a" if {
	input.grant.spec.reason == "slow"
	some a in n
	some b in n
	a + b == 0
}
`

// TestRest: S22. A policy that misses its deadline again and again is answered for,
// and asked again after a while.
func TestRest(t *testing.T) {
	c := compile(t, slow, rego.Options{Deadline: 10 * time.Millisecond})
	now := t0
	rego.SetClock(c, func() time.Time { return now })
	bad, good := grantInput(), grantInput()
	bad.Grant.Spec.Reason = "slow"
	ask := func(in *guardrail.Input, want string) {
		t.Helper()
		_, err := c.Check(in)
		if err == nil && want != "" || err != nil && (want == "" || !strings.Contains(err.Error(), want)) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	ask(bad, "longer than its deadline")
	ask(bad, "longer than its deadline")
	ask(good, "") // in a row, or not at all
	for range 3 {
		ask(bad, "longer than its deadline")
	}
	ask(bad, "not asked for a while")
	ask(good, "not asked for a while")
	now = now.Add(rego.Rest - 1)
	ask(good, "not asked for a while")
	now = now.Add(1)
	ask(bad, "longer than its deadline")
	ask(good, "not asked for a while")
	now = now.Add(rego.Rest)
	ask(good, "")
	ask(bad, "longer than its deadline")
	ask(good, "")
}

// TestRestOfOthers: S22. What grants of one namespace bring about is not held against
// those of another, nor against requests.
func TestRestOfOthers(t *testing.T) {
	c := compile(t, slow, rego.Options{Deadline: 10 * time.Millisecond})
	now := t0
	rego.SetClock(c, func() time.Time { return now })
	bad, good := grantInput(), grantInput()
	bad.Grant.Spec.Reason = "slow"
	bad.Grant.Metadata.Namespace = "hostile"
	for range rego.Strikes {
		if _, err := c.Check(bad); err == nil || !strings.Contains(err.Error(), "longer than its deadline") {
			t.Fatalf("error %v", err)
		}
	}
	if _, err := c.Check(bad); err == nil || !strings.Contains(err.Error(), "not asked for a while") {
		t.Errorf("whoever brings it about is asked for: error %v", err)
	}
	for _, in := range []*guardrail.Input{good, requestInput()} {
		if _, err := c.Check(in); err != nil {
			t.Errorf("others: error %v", err)
		}
	}
	for i := range 100 {
		other := grantInput()
		other.Grant.Spec.Reason, other.Grant.Metadata.Namespace = "slow", fmt.Sprint("n", i)
		if _, err := c.Check(other); err == nil {
			t.Fatal("it is in time")
		}
		now = now.Add(rego.Rest)
	}
	if n := rego.Askers(c); n > 3 {
		t.Errorf("%d are remembered", n)
	}
}

// gate lets a policy that prints wait in the middle of its evaluation.
type gate struct{ reached, open chan struct{} }

func (g gate) Write(p []byte) (int, error) {
	g.reached <- struct{}{}
	<-g.open
	return len(p), nil
}

// TestTurns: S22. As many evaluations are under way as there are processors. One that
// does not get its turn is an error, and nothing that is held against its policy.
// Requests do not wait for grants.
func TestTurns(t *testing.T) {
	g := gate{make(chan struct{}), make(chan struct{})}
	waits := compile(t, "package p\n\ndeny contains \"a\" if print(\"a\")\n", rego.Options{Print: g, Deadline: time.Hour})
	c := compile(t, noExec, rego.Options{Deadline: time.Minute})
	late := compile(t, noExec, rego.Options{Deadline: time.Millisecond})
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			if _, err := waits.Check(grantInput()); err != nil {
				t.Error(err)
			}
		})
		<-g.reached
	}
	for range rego.Strikes + 1 {
		if _, err := late.Check(grantInput()); err == nil || !strings.Contains(err.Error(), "as many evaluations as can be") {
			t.Errorf("error %v", err)
		}
	}
	if n := rego.Askers(late); n > 0 {
		t.Error("it is held against the policy")
	}
	if _, err := c.Check(requestInput()); err != nil {
		t.Errorf("a request waits: %v", err)
	}
	wg.Go(func() { // waits for its turn, and gets it
		if _, err := c.Check(grantInput()); err != nil {
			t.Error(err)
		}
	})
	close(g.open)
	wg.Wait()
}

// TestLeftBehind: S22. An evaluation that nothing cuts is left behind, and no other
// is begun until it has ended.
func TestLeftBehind(t *testing.T) {
	c := compile(t, "package p\n\n"+chain("x", 28, looped)+chain("y", 28, looped)+
		"deny contains \"a\" if {\ninput.grant.spec.reason == \"slow\"\ncount({x28, y28}) == 1\n}\n", rego.Options{Deadline: 300 * time.Millisecond})
	bad := grantInput()
	bad.Grant.Spec.Reason = "slow"
	if _, err := c.Check(bad); err == nil || !strings.Contains(err.Error(), "longer than its deadline") {
		t.Fatalf("error %v", err)
	}
	refused := 0
	for {
		_, err := c.Check(grantInput())
		if err == nil {
			break
		}
		if !strings.Contains(err.Error(), "has not ended") {
			t.Fatal(err)
		}
		refused++
	}
	if refused == 0 {
		t.Error("it was not left behind")
	}
}

func FuzzCompile(f *testing.F) {
	for _, source := range rego.Library() {
		f.Add(source)
	}
	f.Add(noExec)
	f.Add(slow)
	for _, tc := range neverCompiled {
		if len(tc.source) < 1<<12 {
			f.Add("package p\n\n" + tc.source)
		}
	}
	for _, tc := range cutOff {
		f.Add("package p\n\n" + tc.source)
	}
	f.Fuzz(func(t *testing.T, source string) {
		c, errs := rego.Compile(spec, rego.Policy{Modules: map[string]string{"p.rego": source}, Main: "p.rego"}, rego.Options{Deadline: time.Millisecond})
		if (c == nil) != (len(errs) > 0) {
			t.Fatalf("check %v, errors %v", c, errs)
		}
		if c == nil {
			return
		}
		_ = c.Timed()
		if _, err := c.Check(requestInput()); err != nil && strings.Contains(err.Error(), "panic") {
			t.Fatal(err)
		}
	})
}

package ceiling

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/component-helpers/auth/rbac/validation"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/rules"
)

// A universe that is small enough to look at all of it. What is called other is
// named by no rule, and stands for everything that does not exist yet.
var (
	verbs     = []string{"get", "escalate", "bind", "impersonate", "impersonate:user-info", "other"}
	groups    = []string{"", rbacGroup, authentication, "other"}
	resources = []string{
		"pods", "pods/exec", "roles", "clusterroles", "users", "groups", "serviceaccounts", "uids", "nodes",
		"userextras/exec", "userextras/other", "other/exec", "other",
	}
	names = []string{"", "a", "b", "other"}
)

const authentication = "authentication.k8s.io"

// allows is Kubernetes' RuleAllows.
func allows(r *rbacv1.PolicyRule, verb, group, resource, name string) bool {
	has := slices.Contains[[]string]
	_, sub, isSub := strings.Cut(resource, "/")
	return (has(r.Verbs, "*") || has(r.Verbs, verb)) &&
		(has(r.APIGroups, "*") || has(r.APIGroups, group)) &&
		(has(r.Resources, "*") || has(r.Resources, resource) || isSub && has(r.Resources, "*/"+sub)) &&
		(len(r.ResourceNames) == 0 || has(r.ResourceNames, name))
}

// special verbs by the letter, so that the test does not share what it tests.
func special(verb string) bool {
	return slices.Contains([]string{"escalate", "bind", "impersonate", "impersonate:user-info"}, verb)
}

func meansSomething(verb, group, resource string) bool {
	in := func(list ...string) bool { return slices.Contains(list, resource) }
	switch verb {
	case "escalate", "bind":
		return group == rbacGroup && in("roles", "clusterroles")
	case "impersonate":
		return group == "" && in("users", "groups", "serviceaccounts") ||
			group == authentication && in("users", "groups", "serviceaccounts", "uids", "nodes", "userextras/exec", "userextras/other")
	}
	return false
}

// bruteForce looks at everything in the universe.
func bruteForce(ceiling, given []rbacv1.PolicyRule) bool {
	for _, v := range verbs {
		for _, g := range groups {
			for _, res := range resources {
				for _, n := range names {
					gives := slices.ContainsFunc(given, func(r rbacv1.PolicyRule) bool {
						return allows(&r, v, g, res, n) && (!special(v) || slices.Contains(r.Verbs, v) || meansSomething(v, g, res))
					})
					may := slices.ContainsFunc(ceiling, func(r rbacv1.PolicyRule) bool {
						return allows(&r, v, g, res, n) && (!special(v) || slices.Contains(r.Verbs, v))
					})
					if gives && !may {
						return false
					}
				}
			}
		}
	}
	return true
}

func some(r *rand.Rand, of ...string) []string {
	r.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	return of[:1+r.IntN(2)]
}

func randomRules(r *rand.Rand) (out []v1alpha1.PolicyRule) {
	for range 1 + r.IntN(4) {
		p := v1alpha1.PolicyRule{
			Verbs:     some(r, "get", "escalate", "bind", "impersonate", "impersonate:user-info", "*", "*", "*"),
			APIGroups: some(r, "", rbacGroup, authentication, "*", "*"),
			Resources: some(r, "pods", "pods/exec", "roles", "clusterroles", "users", "userextras/exec", "*/exec", "*", "*", "*"),
		}
		if r.IntN(4) == 0 {
			p.ResourceNames = some(r, "a", "b")
		}
		out = append(out, p)
	}
	return out
}

// TestCeilingIsBruteForce: S19. A grant passes if and only if each thing that it
// allows is allowed by some rule of the ceiling.
func TestCeilingIsBruteForce(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	passed := 0
	const rounds = 6000
	for i := range rounds {
		given, ceiling := randomRules(r), randomRules(r)
		switch i % 3 {
		case 1: // what is mostly below
			ceiling = append(ceiling, given...)
		case 2: // everything, with some of the verbs that have to be spelled out
			ceiling = append(ceiling, rule("*", "*", "*"))
			for range r.IntN(6) {
				ceiling = append(ceiling, rule(some(r, "escalate", "bind", "impersonate", "impersonate:user-info")[0], "*", "*"))
			}
		}
		want := bruteForce(rules.Of(ceiling), rules.Of(given))
		got := objectionsTo(t, &v1alpha1.Ceiling{Rules: ceiling}, inputOf(given...))
		if (len(got) == 0) != want {
			t.Fatalf("round %d\nceiling %+v\ngrant   %+v\ncovered %t, objections %q", i, ceiling, given, want, got)
		}
		if want {
			passed++
		}
	}
	if passed < rounds/10 || passed > rounds*9/10 {
		t.Errorf("%d of %d pass: the test says little", passed, rounds)
	}
}

// TestCeilingIsCovers: what is decided rule by rule, by the diagonal, is what
// Covers says of everything at once, and nothing that Covers refuses passes.
func TestCeilingIsCovers(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		given, ceiling := rules.Of(randomRules(r)), rules.Of(randomRules(r))
		if r.IntN(2) == 0 {
			ceiling = append(ceiling, rules.Of(randomRules(r))...)
		}
		for _, g := range given {
			d, left := newDemand(g, false), maxComparisons
			missing, ok := d.uncovered(ceiling, &left)
			want, _ := validation.Covers(ceiling, []rbacv1.PolicyRule{g})
			if !ok || (len(missing) == 0) != want {
				t.Fatalf("ceiling %+v\nrule %+v\nCovers says %t, and %v is missing", ceiling, g, want, missing)
			}
		}
	}
}

// huge has tens of millions of combinations.
func huge() v1alpha1.PolicyRule {
	p := v1alpha1.PolicyRule{}
	for i := range 256 {
		s := fmt.Sprintf("x%d", i)
		if i < 32 {
			p.Verbs = append(p.Verbs, s)
		}
		if i < 64 {
			p.APIGroups, p.Resources = append(p.APIGroups, s), append(p.Resources, s)
		}
		p.ResourceNames = append(p.ResourceNames, s)
	}
	return p
}

// TestHuge: S22. A rule that Covers would take apart into 33 million is decided
// where one rule of the ceiling covers it, and else refused.
func TestHuge(t *testing.T) {
	var given []v1alpha1.PolicyRule
	for range 64 {
		given = append(given, huge())
	}
	if got := objectionsTo(t, &v1alpha1.Ceiling{Rules: all(rule("get", "", "pods"), huge())}, inputOf(given...)); got != nil {
		t.Errorf("a rule that the ceiling has itself is refused: %q", got)
	}
	lacking := huge()
	lacking.ResourceNames = lacking.ResourceNames[1:]
	want := `spec.access[0]: gives more combinations of verbs, groups, resources and names than can be compared with the ceiling of namespace "payments": write rules that each are within one of its rules`
	if got := objectionsTo(t, &v1alpha1.Ceiling{Rules: all(lacking)}, inputOf(given...)); len(got) != 1 || got[0] != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// BenchmarkSet judges a grant of a usual size by many ceilings at once.
func BenchmarkSet(b *testing.B) {
	var bounds []v1alpha1.PolicyRule
	for i := range 20 {
		bounds = append(bounds, rule("get,list,watch,create,update,patch,delete", fmt.Sprintf("group%d.example.com", i), "a,b,c,d,e"))
	}
	bounds = append(bounds, rule("get,list,watch", "", "pods,pods/log,services,configmaps"), rule("*", "apps", "*"))
	given := all(rule("get,list,watch", "", "pods,pods/log"), rule("get,list,watch,update,patch", "apps", "deployments,statefulsets"), rule("get,list", "group7.example.com", "a,b"))
	for _, n := range []int{1, 20, 100} {
		for name, refused := range map[string]bool{"pass": false, "refuse": true} {
			b.Run(fmt.Sprintf("%d/%s", n, name), func(b *testing.B) {
				var guardrails []*guardrail.Guardrail
				for i := range n {
					guardrails = append(guardrails, &guardrail.Guardrail{
						Name: fmt.Sprintf("ceiling-%d", i), Points: guardrail.GrantPoints, Ceiling: true, Check: compiled(b, &v1alpha1.Ceiling{Rules: bounds}),
					})
				}
				set := guardrail.NewSet(guardrails, nil, guardrail.Options{})
				grant := given
				if refused {
					grant = append(slices.Clone(given), rule("get,list", "", "secrets"))
				}
				b.ReportAllocs()
				for b.Loop() {
					in := inputOf(grant...)
					if j := set.Judge(guardrail.Compile, in); (j.Verdict == guardrail.Denied) != refused {
						b.Fatal(j)
					}
				}
			})
		}
	}
}

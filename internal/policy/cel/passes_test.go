package cel_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	library "github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/policy/cel"
)

// oneOff are requests of which each differs from the first in one thing, and every two
// of them in two.
func oneOff() []func(*guardrail.Input) {
	ends := t0.Add(time.Hour)
	return []func(*guardrail.Input){
		func(*guardrail.Input) {},
		func(in *guardrail.Input) { in.Now = time.Date(2026, 12, 24, 3, 0, 0, 0, time.UTC) },
		func(in *guardrail.Input) { in.Now = time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC) }, // a Saturday
		func(in *guardrail.Input) { in.Grants = nil },
		func(in *guardrail.Input) {
			in.Grants = []*guardrail.GrantInfo{{
				Namespace: "other", Name: "g", Labels: map[string]string{"ticket": "PAY-1"}, Reason: "PAY-1", NotAfter: &ends,
				NamespaceLabels: map[string]string{"env": "prod"},
			}}
		},
		func(in *guardrail.Input) { in.Request.Verb = "get" },
		func(in *guardrail.Input) { in.Request.Verb = "create" },
		func(in *guardrail.Input) { in.Request.ResourceRequest = false },
		func(in *guardrail.Input) { in.Request.APIGroup = "apps" },
		func(in *guardrail.Input) { in.Request.APIVersion = "v2" },
		func(in *guardrail.Input) { in.Request.Resource = "secrets" },
		func(in *guardrail.Input) { in.Request.Subresource = "" },
		func(in *guardrail.Input) { in.Request.Subresource = "exec" },
		func(in *guardrail.Input) { in.Request.Namespace = "kube-system" },
		func(in *guardrail.Input) { in.Request.Name = "api-1" },
		func(in *guardrail.Input) {
			in.Request.Name, in.Request.Path = in.Request.Name+"/api", strings.TrimPrefix(in.Request.Path, "/api")
		}, // the same, written one after the other
		func(in *guardrail.Input) { in.Request.Path = "/metrics" },
		func(in *guardrail.Input) { in.Request.User.Name = "bob" },
		func(in *guardrail.Input) { in.Request.User.UID = "u-1" },
		func(in *guardrail.Input) { in.Request.User.Groups = []string{"break-glass"} },
		func(in *guardrail.Input) { in.Request.User.Groups = []string{"oncall,system:authenticated"} },
		func(in *guardrail.Input) { in.Request.User.Groups = nil },
		func(in *guardrail.Input) { in.Request.User.Extra = map[string][]string{"scopes": {"c"}} },
		func(in *guardrail.Input) { in.Request.User.Extra = nil },
		func(in *guardrail.Input) {
			in.Request.Cluster = &guardrail.Cluster{Name: "prod-1", Labels: map[string]string{"env": "dev"}}
		},
		func(in *guardrail.Input) { in.Request.Cluster = &guardrail.Cluster{Name: "dev-1"} },
	}
}

// What a policy remembers changes no answer: each is that of a policy that remembers
// nothing, whatever was asked before.
func TestPasses(t *testing.T) {
	path := field.NewPath("spec", "cel")
	type pair struct{ remembers, forgets guardrail.Check }
	pairs := map[string]pair{}
	add := func(name string, p *v1alpha1.CELPolicy, parameters map[string]any) {
		remembers, errs := cel.Compile(path, p, parameters, cel.Options{})
		if len(errs) > 0 {
			t.Fatal(name, errs)
		}
		forgets, _ := cel.Compile(path, p, parameters, cel.Options{Coverage: true}) // which has to evaluate
		pairs[name] = pair{remembers, forgets}
	}
	for _, x := range []string{
		"input.request.verb != 'get'",
		"!(input.request.resource + '/' + input.request.subresource in ['pods/exec', 'secrets/'])",
		"input.request.resource == 'pods' || input.now < timestamp('2026-06-01T00:00:00Z')",
		"input.request.verb == 'get' || has(input.grants) && input.grants.exists(g, g.reason.startsWith('PAY'))",
		"input.request.cluster.labels.env == 'prod'", "input.request.cluster.name.startsWith('prod')", "input.?request.?cluster.?labels[?'env'].orValue('') == 'prod'",
		"input.request.user.groups.exists(g, g == 'oncall')", "input.request.user.name == 'ann'", "input.request.user.uid == ''",
		"has(input.request.user.uid)", "has(input.request.user) && input.request.user.groups.size() == 2",
		"'a' in input.request.user.extra['scopes']", "input.request.user.extra.all(k, k == 'scopes')",
		"[input.request].all(r, r.name == 'api-0')", "[input.request.user].all(u, u.name == 'ann')", "[input].all(i, i.request.verb == 'create')",
		"dyn(input.request).namespace == 'payments'", "input.request == input.request && input.request.path.startsWith('/api')",
		"input.request.user == input.request.user && input.request.apiVersion == 'v1'",
		"[1].all(input, .input.now < timestamp('2026-06-01T00:00:00Z'))", "[1].all(input, .input.request.name == 'api-0')",
		"[input.request.verb].all(input, input == 'create')", "has(input.request) && !has(input.grant) && input.request.resourceRequest",
		"input.request.apiGroup == '' ? true : input.now > timestamp('2026-06-01T00:00:00Z')",
		"(input.request.name == 'api-0' ? input.grants.size() : 1) == 1", "type(input.request) == type(input.request) && input.version == 'v1alpha1'",
		"input.request.name == 'api-0' && input.request.path != ''",
		"input.request.cluster == input.request.cluster && input.request.cluster.claims.size() == 1",
	} {
		add(x, policy(x), parameters())
		// By a variable, and by one of that.
		p := policy("variables.y")
		p.Variables = []v1alpha1.CELVariable{{Name: "x", Expression: x}, {Name: "y", Expression: "variables.x"}}
		add("variables: "+x, p, parameters())
		// The message is no part of it.
		p = policy(x)
		p.Validations[0].MessageExpression = "string(input.now) + input.request.name"
		add("message: "+x, p, parameters())
	}
	files, err := filepath.Glob("../../../policies/*/guardrail.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		g := &v1alpha1.Guardrail{}
		if err := yaml.UnmarshalStrict(raw, g); err != nil {
			t.Fatal(err)
		}
		if g.Spec.CEL == nil {
			continue
		}
		parameters, errs := library.Parameters(&g.Spec)
		if len(errs) > 0 {
			t.Fatal(errs)
		}
		add(g.Name, g.Spec.CEL, parameters)
	}
	if len(pairs) < 90 {
		t.Fatalf("%d policies: the library's are missing", len(pairs))
	}

	changes := oneOff()
	for name, p := range pairs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, a := range changes {
				for k, b := range changes {
					in := requestInput()
					in.Request.Cluster = theCluster
					a(in)
					b(in)
					want, wantErr := p.forgets.Check(in)
					for range 2 {
						got, gotErr := p.remembers.Check(fresh(in))
						if diff := cmp.Diff(want, got); diff != "" || fmt.Sprint(wantErr) != fmt.Sprint(gotErr) {
							t.Errorf("changes %d and %d (-evaluated +remembered):\n%s%v, %v", i, k, diff, wantErr, gotErr)
						}
					}
				}
			}
		})
	}
}

// theCluster of all requests, as an index has one.
var theCluster = prod()

// What is remembered is what was passed without a look at what may be another soon, by
// what the verdict depends on, and no more of it than there is room for.
func TestRemembered(t *testing.T) {
	each := func(n int, change func(in *guardrail.Input, i int)) (all []*guardrail.Input) {
		for i := range n {
			in := requestInput()
			change(in, i)
			all = append(all, in)
		}
		return all
	}
	name := func(in *guardrail.Input, i int) { in.Request.Name = fmt.Sprint("api-", i) }
	cases := map[string]struct {
		reason, expression string
		asked              []*guardrail.Input
		want               int
	}{
		"Once":     {"The name of the pod is not looked at.", "input.request.verb != 'get'", each(10, name), 1},
		"Each":     {"It is looked at.", "input.request.name.startsWith('api')", each(10, name), 10},
		"Refused":  {"Nothing is passed.", "input.request.verb == 'get'", each(10, name), 0},
		"Failed":   {"Nothing is decided.", "input.request.user.groups[7] == 'x'", each(10, name), 0},
		"Instant":  {"It depends on the instant.", "input.now > timestamp('2026-01-01T00:00:00Z')", each(10, name), 0},
		"Grants":   {"It depends on grants.", "input.grants.size() == 1", each(10, name), 0},
		"Unread":   {"The instant has nothing to do with these.", "input.request.verb == 'create' || input.now < timestamp(0)", each(10, name), 1},
		"Whole":    {"What is looked at cannot be told.", "[input.request].size() == 1", each(10, name), 0},
		"Room":     {"There is room for so many.", "input.request.name != ''", each(1024, name), 1024},
		"NoRoom":   {"Room is made.", "input.request.name != ''", each(1025, name), 1},
		"TooLarge": {"It takes too much room.", "input.request.path != ''", each(1, func(in *guardrail.Input, _ int) { in.Request.Path = strings.Repeat("/x", 400) }), 0},
		"Cluster":  {"Two clusters of one name may have other labels.", "input.request.cluster.name != ''", each(2, name), 2},
		"Unknown": {"Of a cluster that is not of the fleet nobody knows the labels, and each request has another.", "input.request.cluster.name != ''", each(9, func(in *guardrail.Input, i int) {
			if in.Request.Cluster = nil; i > 0 {
				in.Request.Cluster = &guardrail.Cluster{Name: "z", Claims: map[string]string{}}
			}
		}), 0},
		"Version": {"Another version may have another answer.", "input.version != ''", each(2, name), 0},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			c := compile(t, policy(tc.expression))
			for _, in := range tc.asked {
				_, _ = c.Check(in) // which may fail
			}
			if got := cel.Remembered(c); got != tc.want {
				t.Errorf("%s Got %d, want %d", tc.reason, got, tc.want)
			}
		})
	}
}

// What is of a grant is not what was passed without it.
func TestPassesOfRequestsOnly(t *testing.T) {
	grant := grantInput()
	for field, add := range map[string]func(in *guardrail.Input){
		"grant": func(in *guardrail.Input) { in.Grant = grant.Grant }, "namespace": func(in *guardrail.Input) { in.Namespace = grant.Namespace },
		"roles": func(in *guardrail.Input) { in.Roles = grant.Roles }, "access": func(in *guardrail.Input) { in.Access = grant.Access },
		"clusters": func(in *guardrail.Input) { in.Clusters = grant.Clusters }, "source": func(in *guardrail.Input) { in.Source = grant.Source },
	} {
		c := compile(t, policy("!has(input."+field+")"))
		if got, err := c.Check(requestInput()); len(got) > 0 || err != nil || cel.Remembered(c) != 1 {
			t.Errorf("%s: a request: %v, %v, %d remembered", field, got, err, cel.Remembered(c))
		}
		in := requestInput()
		add(in)
		if got, err := c.Check(in); len(got) != 1 || err != nil {
			t.Errorf("%s: a request with one: %v, %v", field, got, err)
		}
	}
}

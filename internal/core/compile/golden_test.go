package compile

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

var update = flag.Bool("update", false, "write testdata/*.yaml anew")

func member(name string, by subject.Path, labels ...string) fleet.Member {
	m := fleet.Member{Name: name, Accepted: true, Delivery: fleet.ManifestWork, Paths: by, Labels: map[string]string{}}
	for _, l := range labels {
		k, v, _ := strings.Cut(l, "=")
		m.Labels[k] = v
	}
	if by.Impersonates() {
		m.Impersonator = karmadaImpersonator
	}
	return m
}

func rule(verbs, group, resources string) v1alpha1.PolicyRule {
	return v1alpha1.PolicyRule{Verbs: strings.Split(verbs, ","), APIGroups: []string{group}, Resources: strings.Split(resources, ",")}
}

func roleRef(kind v1alpha1.RoleKind, name string) *v1alpha1.RoleReference {
	return &v1alpha1.RoleReference{Kind: kind, Name: name}
}

func on(names ...v1alpha1.ClusterName) v1alpha1.ClusterSelection {
	return v1alpha1.ClusterSelection{Names: names}
}

func in(namespaces ...v1alpha1.NamespaceName) []v1alpha1.NamespaceName { return namespaces }

func user(name string) v1alpha1.Subject  { return v1alpha1.Subject{Kind: "User", Name: name} }
func group(name string) v1alpha1.Subject { return v1alpha1.Subject{Kind: "Group", Name: name} }
func sa(namespace, name string) v1alpha1.Subject {
	return v1alpha1.Subject{Kind: "ServiceAccount", Namespace: namespace, Name: name}
}

func to(subjects ...v1alpha1.Subject) []v1alpha1.Subject { return subjects }

func grant(key string, subjects []v1alpha1.Subject, clusters v1alpha1.ClusterSelection, access ...v1alpha1.AccessEntry) Grant {
	namespace, name, _ := strings.Cut(key, "/")
	return Grant{
		Namespace: namespace, Name: name, Source: "GitSync sallyport-system/access main@sha1:2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
		Spec: &v1alpha1.AccessGrantSpec{Reason: "test", Subjects: subjects, Clusters: clusters, Access: access},
	}
}

func roles(named ...any) map[string]*v1alpha1.AccessRoleSpec {
	out := map[string]*v1alpha1.AccessRoleSpec{}
	for i := 0; i < len(named); i += 2 {
		out[named[i].(string)] = &v1alpha1.AccessRoleSpec{Rules: named[i+1].([]v1alpha1.PolicyRule)}
	}
	return out
}

var podOperator = []v1alpha1.PolicyRule{rule("get,list,watch,delete", "", "pods"), rule("create", "", "pods/exec")}

// TestGolden renders what telling snapshots compile to. Refresh with
// go test ./internal/core/compile -run TestGolden -update.
func TestGolden(t *testing.T) {
	cases := map[string]struct {
		reason string
		in     Snapshot
	}{
		"example": {
			reason: "The example of the design: a group, clusters by name and by selector, a role and inline rules in one namespace.",
			in: Snapshot{
				Guardrails: unguarded,
				Fleet:      fleet.New([]fleet.Member{member("prod-eu-1", subject.Gateway), member("prod-us-1", subject.Gateway, "env=prod"), member("dev-1", subject.Gateway, "env=dev")}),
				Roles:      roles("pod-operator", podOperator),
				Grants: []Grant{func() Grant {
					g := grant("payments/oncall", to(group("payments-oncall")), on("prod-eu-1"),
						v1alpha1.AccessEntry{RoleRef: roleRef("AccessRole", "pod-operator"), Namespaces: in("payments")},
						v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("get", "", "pods/log")}, Namespaces: in("payments")})
					g.Spec.Clusters.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}
					g.Spec.Validity = &v1alpha1.Validity{NotAfter: &metav1.Time{Time: noon.Add(8 * time.Hour)}}
					return g
				}()},
			},
		},
		"merged": {
			reason: "Two grants of two tenants for one role in one namespace are one binding with both labels; what only one asks for names it alone.",
			in: Snapshot{
				Guardrails: unguarded,
				Fleet:      fleet.New([]fleet.Member{member("m", subject.Gateway)}),
				Roles:      roles("pod-operator", podOperator),
				Grants: []Grant{
					grant("a/first", to(user("alice"), group("devs")), on("m"), v1alpha1.AccessEntry{RoleRef: roleRef("AccessRole", "pod-operator"), Namespaces: in("shop")}),
					grant("b/second", to(user("bob"), group("devs")), on("m"), v1alpha1.AccessEntry{RoleRef: roleRef("AccessRole", "pod-operator"), Namespaces: in("shop", "web")}),
				},
			},
		},
		"serviceaccount": {
			reason: "A service account of the hub has a name per path; Karmada's impersonator may be it in its namespace, and no account of that name elsewhere.",
			in: Snapshot{
				Guardrails: unguarded,
				Fleet:      fleet.New([]fleet.Member{member("both", subject.Karmada|subject.ClusterProxy), member("karmada", subject.Karmada), member("proxy", subject.ClusterProxy)}),
				Grants: []Grant{grant("ci/deploy", to(sa("ci", "deployer")), on("both", "karmada", "proxy"),
					v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("patch", "apps", "deployments")}, Namespaces: in("web")})},
			},
		},
		"group-by-karmada": {
			reason: "Nobody on the hub knows who is in a group: the impersonator gets constrained impersonation, for what the group may do, where it may.",
			in: Snapshot{
				Guardrails: unguarded,
				Fleet:      fleet.New([]fleet.Member{member("m", subject.Karmada|subject.Gateway)}),
				Grants: []Grant{grant("payments/oncall", to(group("payments-oncall"), user("alice")), on("m"),
					v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("*", "", "pods"), rule("impersonate,get", "", "users")}, Namespaces: in("payments")},
					v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("list", "", "nodes"), {Verbs: []string{"*"}, NonResourceURLs: []string{"/metrics"}}}})},
			},
		},
		"by-gateway": {
			reason: "The gateway says who somebody is in full: its impersonator may present UIDs and what Kubernetes says of credentials, and otherwise what Karmada's may. Where only a group is granted, that is in constrained mode alone.",
			in: Snapshot{
				Guardrails: unguarded,
				Fleet:      fleet.New([]fleet.Member{member("a", subject.Gateway|subject.Impersonated), member("b", subject.Gateway|subject.Impersonated)}),
				Grants: []Grant{
					grant("payments/oncall", to(group("payments-oncall")), on("a", "b"),
						v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("get", "", "pods/log")}, Namespaces: in("payments")}),
					grant("payments/named", to(user("alice"), sa("ci", "deployer")), on("b"),
						v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("get", "", "pods/log")}, Namespaces: in("payments")}),
				},
			},
		},
		"roles-of-the-member": {
			reason: "Roles and ClusterRoles that exist on the member are bound only, the hub needs every verb, and an AccessRole of the same name is another role.",
			in: Snapshot{
				Guardrails: unguarded,
				Fleet:      fleet.New([]fleet.Member{member("m", subject.Gateway)}),
				Roles:      roles("view", podOperator),
				Grants: []Grant{grant("a/views", to(user("alice")), on("m"),
					v1alpha1.AccessEntry{RoleRef: roleRef("ClusterRole", "view")},
					v1alpha1.AccessEntry{RoleRef: roleRef("ClusterRole", "view"), Namespaces: in("web")},
					v1alpha1.AccessEntry{RoleRef: roleRef("Role", "view"), Namespaces: in("web")},
					v1alpha1.AccessEntry{RoleRef: roleRef("AccessRole", "view"), Namespaces: in("web")})},
			},
		},
		"hub-verbs": {
			reason: "The verbs on the hub are per cluster, and clusters that need the same share a rule.",
			in: Snapshot{
				Guardrails: unguarded,
				Fleet:      fleet.New([]fleet.Member{member("a", subject.Gateway), member("b", subject.Gateway), member("c", subject.Gateway|subject.Karmada), member("d", subject.Gateway)}),
				Grants: []Grant{
					grant("t/read", to(user("alice")), on("a", "b", "c"), v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("list,watch", "", "pods")}}),
					grant("t/write", to(user("alice")), on("b"), v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("deletecollection,create", "", "pods")}}),
					grant("t/nothing", to(user("alice")), on("d"), v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{rule("bind", "rbac.authorization.k8s.io", "clusterroles")}}),
				},
			},
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			tc.in.Now = noon
			o := Grants(tc.in)
			checkShape(t, tc.in, o)
			file := filepath.Join("testdata", name+".yaml")
			got := "# " + tc.reason + "\n" + rendered(t, o)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if err := yaml.Unmarshal([]byte(got), new(any)); err != nil {
				t.Errorf("%s is not YAML: %v", file, err)
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s\n%s (-want +got):\n%s", tc.reason, file, diff)
			}
		})
	}
}

// rendered is an output as YAML for people: what matters of each object, a line
// where a line will do. Labels and annotations are what checkShape looks at.
func rendered(t *testing.T, o Output) string {
	t.Helper()
	var b strings.Builder
	line := func(format string, v any) {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, format, raw)
	}
	object := func(x *Object) {
		fmt.Fprintf(&b, "- %s: %s\n  of: [%s]\n", x.Kind, strings.TrimPrefix(x.Namespace+"/"+x.Name, "/"), strings.Join(x.Grants, ", "))
		for i, r := range rulesOf(x) {
			if i == 0 {
				b.WriteString("  rules:\n")
			}
			line("  - %s\n", r)
		}
		if ref, subjects, ok := bindingOf(x); ok {
			fmt.Fprintf(&b, "  role: %s %s\n  subjects:\n", ref.Kind, ref.Name)
			for _, s := range subjects {
				fmt.Fprintf(&b, "  - %s %s\n", s.Kind, strings.TrimPrefix(s.Namespace+"/"+s.Name, "/"))
			}
		}
	}
	b.WriteString("hub:\n")
	for _, x := range o.Hub {
		object(x)
	}
	for _, m := range o.Members {
		for _, w := range m.Works {
			fmt.Fprintf(&b, "\n%s, work %s, of %s:\n", m.Name, w.Name, strings.Join(w.Grants, " and "))
			for _, x := range w.Objects {
				object(x)
			}
		}
	}
	b.WriteString("\nresults:\n")
	for _, r := range o.Results {
		fmt.Fprintf(&b, "- grant: %s\n  phase: %s\n  clusters: [%s]\n", r.Grant, [...]string{"Expired", "NotYetActive", "Active"}[r.Phase], strings.Join(r.Clusters, ", "))
		for _, x := range r.Rejections {
			fmt.Fprintf(&b, "  rejection: {cluster: %q, reason: %s, message: %q}\n", x.Cluster, x.Reason, x.Message)
		}
	}
	if !o.Next.IsZero() {
		fmt.Fprintf(&b, "\nnext: %s\n", o.Next.Format(time.RFC3339))
	}
	return b.String()
}

package gateway_test

import (
	"context"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// TestRefusals: whoever is refused is told by which layer, what was asked, and what to
// do; and nothing of how policies are written.
func TestRefusals(t *testing.T) {
	w := theWorld(t)
	erin := w.user(t, "erin", "payments-devs")
	g := grant("refusals", "erin", []v1alpha1.ClusterName{east}, onPods()...)
	member := grant("refusals-member", "erin", []v1alpha1.ClusterName{west})
	member.Spec.Access = []v1alpha1.AccessEntry{{
		RoleRef: &v1alpha1.RoleReference{Kind: "ClusterRole", Name: "looker"}, Namespaces: []v1alpha1.NamespaceName{payments},
	}}
	shells := guardrail("no-vault-shell", onVaults("exec"), "open a shell by https://vault.example instead", v1alpha1.PointRequest)
	shells.Spec.Exceptions = &v1alpha1.ExceptionTerms{MaxDuration: metav1.Duration{Duration: time.Hour}}
	ports := guardrail("no-vault-ports", onVaults("portforward"), "vaults have no ports", v1alpha1.PointRequest)
	w.create(t, shells, ports, g, member)

	cases := map[string]struct {
		reason string
		member string
		args   []string
		want   []string
		// wantNot is besides what nobody is ever told.
		wantNot []string
	}{
		"Guardrail": {
			reason: "The guardrail, its message, the grant that would give it, and how to get past.", member: east,
			args: []string{"exec", "vault-0", "--", "true"},
			want: []string{
				`user "erin" cannot`, `"pods/exec"`, `name "vault-0"`, `on cluster "east"`,
				"no-vault-shell", "open a shell by https://vault.example instead", "GuardrailException for grant payments/refusals",
			},
		},
		"WithoutException": {
			reason: "There is no way past, and none is named.", member: east,
			args:    []string{"port-forward", "vault-0", ":8080"},
			want:    []string{`"pods/portforward"`, "no-vault-ports", "vaults have no ports"},
			wantNot: []string{"GuardrailException"},
		},
		"Grant": {
			reason: "What was asked, whom a grant could name, and where to ask.", member: east,
			args: []string{"get", "secrets"},
			want: []string{
				`user "erin" cannot list resource "secrets" in API group "", in namespace "payments" on cluster "east"`,
				`no active grant gives it. To ask for it, commit an AccessGrant for User "erin" or Group "payments-devs" that does: see https://access.example`,
			},
		},
		"Member": {
			reason: "The member's own words, and a warning that says whose they are.", member: west,
			args: []string{"get", "pods", "-w"},
			want: []string{
				`Warning: this answer is of the RBAC of cluster west; Sallyport let the request through by grant payments/refusals-member`,
				`User "erin" cannot watch resource "pods" in API group "" in the namespace "payments"`,
			},
		},
	}
	for _, way := range ways {
		at := map[string]*person{east: w.at(t, way.to(w, erin, east)), west: w.at(t, way.to(w, erin, west))}
		at[east].can("exec", "api-0", "--", "true")
		at[west].can("get", "pods")
		for name, tc := range cases {
			t.Run(way.name+"/"+name, func(t *testing.T) {
				// A guardrail is in force a moment after it was written.
				until(t, tc.reason, func(context.Context) string {
					out, errOut, err := at[tc.member].run("", tc.args...)
					if err == nil {
						return "it was let through: " + out
					}
					for _, want := range tc.want {
						if !strings.Contains(errOut, want) {
							return "it does not say " + want + ": " + errOut
						}
					}
					for _, internal := range append(tc.wantNot, "startsWith", "input.", "cel", "sallyport-gateway", "impersonat") {
						if strings.Contains(errOut, internal) {
							t.Errorf("it says %q: %s", internal, errOut)
						}
					}
					return ""
				})
			})
		}
	}

	t.Run("a cluster that does not exist is like one that was not granted", func(t *testing.T) {
		stranger := w.user(t, "stranger")
		for _, way := range ways {
			said := map[string]string{}
			for _, cluster := range []string{east, "nowhere"} {
				config := way.to(w, stranger, cluster)
				a := ask(t.Context(), clientOf(t, config), "GET", config.Host+"/api/v1/namespaces/payments/pods")
				if a.code != 403 {
					t.Errorf("%s, %s: got %d, want 403", way.name, cluster, a.code)
				}
				message, _, _ := strings.Cut(a.status.Message, " (request ")
				said[cluster] = strings.ReplaceAll(message, cluster, "CLUSTER")
			}
			if said[east] != said["nowhere"] {
				t.Errorf("%s: they differ: %q and %q", way.name, said[east], said["nowhere"])
			}
		}
	})
}

// onVaults is false of erin's requests for a subresource of a vault's pod.
func onVaults(subresource string) string {
	return `!(input.request.user.name == 'erin' && input.request.resource == 'pods' && input.request.subresource == '` + subresource + `' && input.request.name.startsWith('vault-'))`
}

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/internal/cli/lint"
)

// webhook installs the admission webhook, whose Service leads to this process, and
// returns the option with which the controller serves it.
func (w *world) webhook() func(*controllers.Options) {
	w.Helper()
	var listen net.ListenConfig
	l, err := listen.Listen(w.ctx, "tcp", "localhost:0")
	w.must(err)
	addr := l.Addr().(*net.TCPAddr)
	w.must(l.Close())
	read := func(name string, into client.Object) {
		raw, err := os.ReadFile(filepath.Join("..", "..", "config", "webhook", name))
		w.must(err)
		w.must(yaml.UnmarshalStrict(raw, into))
	}
	var secret corev1.Secret
	read("secret.yaml", &secret)
	secret.Namespace = namespace
	var service corev1.Service
	read("service.yaml", &service)
	service.Namespace = namespace
	service.Spec = corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "localhost"}
	var configuration admissionregistrationv1.ValidatingWebhookConfiguration
	read("configuration.yaml", &configuration)
	port := int32(addr.Port)
	for i := range configuration.Webhooks {
		configuration.Webhooks[i].ClientConfig.Service.Port = &port
	}
	w.create(&secret, &service, &configuration)
	return func(o *controllers.Options) { o.WebhookAddr = fmt.Sprintf("localhost:%d", port) }
}

// said is what a guardrail says of a grant, wherever it is asked.
type said struct{ Guardrail, Field, Message, Enforcement, Exception string }

// TestPointsAgree: S15. Before the commit, at admission and on what is compiled, one
// grant gets one answer, byte for byte: violations, exceptions and ends included.
func TestPointsAgree(t *testing.T) {
	w := newWorld(t, "m1")
	w.byKubeconfig("m1", prod)
	now := w.now()

	var grants []*v1alpha1.AccessGrant
	add := func(name string, change func(*v1alpha1.AccessGrant)) {
		g := reading(name, "pods")
		g.Spec.Reason = "PAY-1234 " + name
		change(g)
		grants = append(grants, g)
	}
	rules := func(g *v1alpha1.AccessGrant) *v1alpha1.PolicyRule { return &g.Spec.Access[0].Rules[0] }
	add("fine", func(*v1alpha1.AccessGrant) {})
	add("secrets", func(g *v1alpha1.AccessGrant) { rules(g).Resources = []string{"secrets"} })
	add("excused", func(g *v1alpha1.AccessGrant) { rules(g).Resources = []string{"secrets"} })
	add("not-excused-any-more", func(g *v1alpha1.AccessGrant) { rules(g).Resources = []string{"secrets"} })
	add("stars", func(g *v1alpha1.AccessGrant) { rules(g).Verbs, rules(g).Resources = []string{"*"}, []string{"*"} })
	add("everyone", func(g *v1alpha1.AccessGrant) {
		g.Spec.Subjects = []v1alpha1.Subject{{Kind: v1alpha1.GroupSubject, Name: "system:authenticated"}}
	})
	add("look-alike", func(g *v1alpha1.AccessGrant) {
		rules(g).APIGroups, rules(g).Resources = []string{"core"}, []string{"secrets"}
	})
	add("unknown-role", func(g *v1alpha1.AccessGrant) {
		g.Spec.Access = []v1alpha1.AccessEntry{{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.ClusterRoleRef, Name: "deployer"}}}
	})
	add("by-role", func(g *v1alpha1.AccessGrant) {
		g.Spec.Access = []v1alpha1.AccessEntry{{RoleRef: &v1alpha1.RoleReference{Kind: v1alpha1.AccessRoleRef, Name: "keeper"}, Namespaces: []v1alpha1.NamespaceName{"payments"}}}
	})
	add("not-there", func(g *v1alpha1.AccessGrant) {
		g.Spec.Clusters.Names = []v1alpha1.ClusterName{"m1"}
		g.Spec.Access[0].Namespaces = []v1alpha1.NamespaceName{"kube-system"}
		rules(g).Resources, rules(g).Verbs = []string{"pods/exec"}, []string{"create"}
	})
	role := roleOf("keeper", "secrets")
	tenants := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments", Labels: map[string]string{"tier": "tenant"}}}

	var policy []client.Object
	for _, name := range []string{"no-secrets-read", "no-wildcards", "no-everyone", "no-exec-without-ticket", "reason-pattern"} {
		raw, err := os.ReadFile(filepath.Join("..", "..", "policies", name, "guardrail.yaml"))
		w.must(err)
		var g v1alpha1.Guardrail
		w.must(yaml.UnmarshalStrict(raw, &g))
		policy = append(policy, &g)
	}
	rego := noSecretsInRego()
	rego.Name, rego.Spec.Enforcement = "in-rego", v1alpha1.EnforcementWarn
	ceiling := &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: "tenants"},
		Spec: v1alpha1.GuardrailSpec{
			Enforcement: v1alpha1.EnforcementAudit,
			Match:       &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: &metav1.LabelSelector{MatchLabels: tenants.Labels}}},
			Ceiling:     &v1alpha1.Ceiling{Namespaces: []v1alpha1.Pattern{"pay*"}, Rules: []v1alpha1.PolicyRule{{Verbs: []string{"get", "list"}, APIGroups: []string{""}, Resources: []string{"pods"}}}},
		},
	}
	policy = append(policy, rego, ceiling)
	for grant, span := range map[string][2]time.Duration{
		"excused": {-time.Hour, time.Hour}, "not-excused-any-more": {-2 * time.Hour, -time.Hour},
	} {
		policy = append(policy, &v1alpha1.GuardrailException{
			ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "for-" + grant},
			Spec: v1alpha1.GuardrailExceptionSpec{
				Guardrail: "no-secrets-read", Grant: grant, Reason: "a test", Ticket: "T-1",
				NotBefore: metav1.NewTime(now.Add(span[0])), NotAfter: metav1.NewTime(now.Add(span[1])),
			},
		})
	}

	// What stands before there is any policy is judged when there is: at Compile.
	w.create(tenants, role)
	w.asked()
	for _, g := range grants {
		w.create(g)
	}
	w.eventually("the webhook takes the policy", func() string {
		for _, o := range policy {
			if err := w.hub.Create(w.ctx, o.DeepCopyObject().(client.Object)); err != nil && !apierrors.IsAlreadyExists(err) {
				return err.Error()
			}
		}
		return ""
	})
	for _, o := range policy {
		if g, ok := o.(*v1alpha1.Guardrail); ok {
			w.inForce(g.Name)
		}
	}
	planned := w.lint(append(policy, tenants, role), grants)

	refused := 0
	for _, g := range grants {
		t.Run(g.Name, func(t *testing.T) {
			want := planned["AccessGrant payments/"+g.Name]
			var compiled []said
			w.eventually("the grant is judged as it was planned", func() string {
				compiled = nil
				for _, v := range w.grant("payments", g.Name).Status.Violations {
					compiled = append(compiled, said{v.Guardrail, v.Field, v.Message, string(v.Enforcement), v.Exception})
				}
				slices.SortFunc(compiled, compareSaid)
				return cmp.Diff(want, compiled)
			})

			// At admission, the same grant once more, in a change that means nothing. It is a
			// patch, which nobody else's change is in the way of.
			patch := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":{"again":"true"}}}`))
			var warnings warned
			err := w.warned(&warnings).Patch(w.ctx, w.grant("payments", g.Name), patch, client.DryRunAll)
			told := strings.Join(warnings.texts, "\n")
			if err != nil {
				told += "\n" + err.Error()
			}
			denied := false
			for _, s := range want {
				reason := fmt.Sprintf("guardrail %q: %s (%s)", s.Guardrail, s.Message, s.Field)
				counts := s.Enforcement == "Deny" && s.Exception == ""
				denied = denied || counts
				if s.Enforcement != "Audit" && !strings.Contains(told, reason) {
					t.Errorf("S15: at admission nobody says %s\nbut %s", reason, told)
				}
			}
			if denied != (err != nil) {
				t.Errorf("S15: planned and compiled it is denied: %t; at admission: %v", denied, err)
			}
			if denied {
				refused++
			}
		})
	}
	if refused < 5 || refused > len(grants)-3 {
		t.Errorf("%d of %d are refused: the vectors show nothing", refused, len(grants))
	}
}

// lint a repository of objects, and tell by object what guardrails say.
func (w *world) lint(policy []client.Object, grants []*v1alpha1.AccessGrant) map[string][]said {
	w.Helper()
	repo := w.TempDir()
	write := func(name, content string) {
		w.must(os.WriteFile(filepath.Join(repo, name), []byte(content), 0o644))
	}
	for i, o := range policy {
		o = o.DeepCopyObject().(client.Object)
		bare(o)
		write(fmt.Sprintf("policy-%d.yaml", i), manifest(w.T, o))
	}
	for _, g := range grants {
		g := g.DeepCopy()
		bare(g)
		write(g.Name+".yaml", manifest(w.T, g))
	}
	write("fleet.yaml", "apiVersion: cluster.open-cluster-management.io/v1\nkind: ManagedCluster\nmetadata: {name: m1, labels: {env: prod}}\nspec: {hubAcceptsClient: true}\n")
	cmd := lint.Command()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	cmd.SetArgs([]string{repo, "-o", "json", "--now", w.now().UTC().Format(time.RFC3339)})
	if err := cmd.ExecuteContext(w.ctx); err == nil {
		w.Fatalf("lint refuses nothing: %s", out.String())
	}
	var report struct {
		Findings []struct{ Object, Guardrail, Field, Message, Enforcement, Exception string }
	}
	if err := json.NewDecoder(&out).Decode(&report); err != nil {
		w.Fatal(err)
	}
	byObject := map[string][]said{}
	for _, f := range report.Findings {
		if f.Guardrail != "" && strings.HasPrefix(f.Object, "AccessGrant ") {
			byObject[f.Object] = append(byObject[f.Object], said{f.Guardrail, f.Field, f.Message, f.Enforcement, f.Exception})
		}
	}
	for _, list := range byObject {
		slices.SortFunc(list, compareSaid)
	}
	return byObject
}

// bare is an object as somebody writes it.
func bare(o client.Object) {
	o.SetResourceVersion("")
	o.SetUID("")
	o.SetManagedFields(nil)
	o.SetGeneration(0)
	o.SetFinalizers(nil)
}

func compareSaid(a, b said) int {
	return strings.Compare(fmt.Sprint(a), fmt.Sprint(b))
}

// warned collects what the API server warns of.
type warned struct{ texts []string }

// HandleWarningHeaderWithContext implements rest.WarningHandlerWithContext.
func (r *warned) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	r.texts = append(r.texts, text)
}

// warned is a client of the hub's administrator whose warnings are collected.
func (w *world) warned(to *warned) client.WithWatch {
	w.Helper()
	config := w.fleet.Hub.AdminConfig()
	config.WarningHandlerWithContext = to
	return w.client(config)
}

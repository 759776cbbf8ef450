package config_test

import (
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// reachable has the webhook's Service lead to an address of this machine, where
// nothing gives a ClusterIP a meaning.
func reachable(t *testing.T, o *unstructured.Unstructured, addr string) {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	n, err := strconv.ParseInt(port, 10, 32)
	must(t, err)
	switch o.GetKind() {
	case "Service":
		o.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
	case "ValidatingWebhookConfiguration":
		for _, hook := range o.Object["webhooks"].([]any) {
			must(t, unstructured.SetNestedField(hook.(map[string]any), n, "clientConfig", "service", "port"))
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

// testWebhook: S16. With the manifests and no controller, no grant is taken. Then the
// hub is left without the webhook, for the tests of what the hub refuses by itself.
func testWebhook(t *testing.T, admin client.Client) {
	ctx := t.Context()
	grant := accessGrant("unasked", func(*unstructured.Unstructured) {})
	grant.SetNamespace("default")
	if err := admin.Create(ctx, grant); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), `failed calling webhook "grants.guardrails.sallyport.dev"`) {
		t.Errorf("a grant that nobody can judge got %v, want it refused", err)
	}
	must(t, admin.Delete(ctx, &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: "sallyport-guardrails"}}))
}

// installed is what the manifests say of the webhook.
type installed struct {
	deployment appsv1.Deployment
	service    corev1.Service
	policy     networkingv1.NetworkPolicy
	webhooks   admissionregistrationv1.ValidatingWebhookConfiguration
	others     []string // of kinds that are about certificates and rights
}

func manifestsOf(t *testing.T, folder string) installed {
	t.Helper()
	var in installed
	for _, o := range build(t, folder) {
		var into any
		switch o.GetKind() {
		case "Deployment":
			into = &in.deployment
		case "Service":
			into = &in.service
		case "NetworkPolicy":
			into = &in.policy
		case "ValidatingWebhookConfiguration":
			into = &in.webhooks
		default:
			if strings.HasPrefix(o.GetName(), "sallyport-webhook") {
				in.others = append(in.others, o.GetKind()+" "+o.GetName())
			}
			continue
		}
		must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into))
	}
	slices.Sort(in.others)
	return in
}

// TestWebhookManifests: the parts that have to fit fit.
func TestWebhookManifests(t *testing.T) {
	for name, tc := range map[string]struct {
		reason, folder string
		args, others   []string
		injected       string
	}{
		"Default": {
			reason: "Sallyport makes the certificate, and may write what it takes.",
			folder: "../../config/default",
			args:   []string{"controller", "--leader-elect"},
			others: []string{
				"ClusterRole sallyport-webhook", "ClusterRoleBinding sallyport-webhook", "Role sallyport-webhook", "RoleBinding sallyport-webhook",
				"Secret sallyport-webhook-certs",
			},
		},
		"CertManager": {
			reason: "cert-manager makes it, and Sallyport has no right to.",
			folder: "testdata/cert-manager",
			args:   []string{"controller", "--leader-elect", "--webhook-cert-dir=/etc/sallyport/webhook"},
			others: []string{
				"Certificate sallyport-webhook", "Certificate sallyport-webhook-ca", "Issuer sallyport-webhook", "Issuer sallyport-webhook-root",
			},
			injected: "sallyport-system/sallyport-webhook",
		},
	} {
		t.Run(name, func(t *testing.T) {
			in := manifestsOf(t, tc.folder)
			container := in.deployment.Spec.Template.Spec.Containers[0]
			if diff := cmp.Diff(tc.args, container.Args); diff != "" {
				t.Errorf("%s\narguments (-want +got):\n%s", tc.reason, diff)
			}
			if diff := cmp.Diff(tc.others, in.others); diff != "" {
				t.Errorf("%s\nobjects (-want +got):\n%s", tc.reason, diff)
			}
			if got := in.webhooks.Annotations["cert-manager.io/inject-ca-from"]; got != tc.injected {
				t.Errorf("%s\nthe authority is injected from %q, want %q", tc.reason, got, tc.injected)
			}
			if mounts := len(container.VolumeMounts); (mounts > 0) != (tc.injected != "") {
				t.Errorf("%s\n%d mounts", tc.reason, mounts)
			}
			if !labels.SelectorFromSet(in.service.Spec.Selector).Matches(labels.Set(in.deployment.Spec.Template.Labels)) {
				t.Error("the Service does not select the Deployment's pods")
			}
			port := slices.IndexFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == in.service.Spec.Ports[0].TargetPort.StrVal })
			if port < 0 {
				t.Fatal("the Service leads to no port of the container")
			}
			if !slices.ContainsFunc(in.policy.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
				return len(r.From) == 0 && len(r.Ports) == 1 && r.Ports[0].Port.IntVal == container.Ports[port].ContainerPort
			}) {
				t.Error("the NetworkPolicy does not let the API server in")
			}
			kinds := map[string]bool{}
			for _, hook := range in.webhooks.Webhooks {
				s := hook.ClientConfig.Service
				if s.Name != in.service.Name || s.Namespace != in.service.Namespace || *s.Port != in.service.Spec.Ports[0].Port || *s.Path != "/validate" {
					t.Errorf("webhook %q is asked at %+v", hook.Name, s)
				}
				for _, rule := range hook.Rules {
					if !slices.Equal(rule.APIVersions, []string{"*"}) || !slices.Equal(rule.APIGroups, []string{v1alpha1.GroupVersion.Group}) {
						t.Errorf("S27: webhook %q is asked about %v of %v", hook.Name, rule.APIVersions, rule.APIGroups)
					}
					for _, resource := range rule.Resources {
						for _, op := range rule.Operations {
							if kinds[string(op)+" "+resource] = true; op != admissionregistrationv1.Delete && *hook.FailurePolicy != admissionregistrationv1.Fail {
								t.Errorf("S16: %s of %s passes while nobody answers", op, resource)
							}
						}
					}
				}
				if hook.NamespaceSelector != nil || hook.ObjectSelector != nil || len(hook.MatchConditions) > 0 || *hook.MatchPolicy != admissionregistrationv1.Equivalent {
					t.Errorf("S27: webhook %q leaves something out", hook.Name)
				}
			}
			want := map[string]bool{"DELETE guardrails": true}
			for _, resource := range []string{"accessgrants", "accessroles", "guardrails", "guardrailbundles", "guardrailexceptions"} {
				want["CREATE "+resource], want["UPDATE "+resource] = true, true
			}
			if diff := cmp.Diff(want, kinds); diff != "" {
				t.Errorf("what is asked about (-want +got):\n%s", diff)
			}
		})
	}
}

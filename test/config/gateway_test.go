package config_test

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	apiregistrationv1 "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/test/controlplane"
)

// gatewayRights are all that the gateway's account has, and what it must not have.
var gatewayRights = map[string]right{
	"Grants":        {reason: "What decides.", group: "access.sallyport.dev", resources: "accessgrants accessroles guardrails guardrailbundles guardrailexceptions", verbs: read},
	"Namespaces":    {reason: "Guardrails are for namespaces by their labels.", resources: "namespaces", verbs: read},
	"Standing":      {reason: "Where a grant stands that cannot be judged.", group: "rbac.authorization.k8s.io", resources: "clusterroles", verbs: read},
	"OCMFleet":      {reason: "The fleet.", group: "cluster.open-cluster-management.io", resources: "managedclusters managedclustersets managedclustersetbindings placements placementdecisions", verbs: read},
	"OCMAddOns":     {reason: "The fleet.", group: "addon.open-cluster-management.io", resources: "managedclusteraddons", verbs: read},
	"Karmada":       {reason: "The fleet.", group: "cluster.karmada.io", resources: "clusters", verbs: read},
	"Profiles":      {reason: "The fleet.", group: "multicluster.x-k8s.io", resources: "clusterprofiles", verbs: read},
	"Served":        {reason: "Which of these the hub has.", group: "apiextensions.k8s.io", resources: "customresourcedefinitions", verbs: read},
	"Aggregated":    {reason: "Likewise.", group: "apiregistration.k8s.io", resources: "apiservices", verbs: read},
	"Archives":      {reason: "What was made of bundles.", resources: "configmaps", verbs: read, namespace: namespace},
	"Routes":        {reason: "How members are reached.", resources: "secrets", verbs: read, namespace: gatewayNamespace},
	"TokenReview":   {reason: "It asks who somebody is.", group: "authentication.k8s.io", resources: "tokenreviews", verbs: "create"},
	"AccessReview":  {reason: "It asks whether somebody may.", group: "authorization.k8s.io", resources: "subjectaccessreviews", verbs: "create"},
	"Aggregation":   {reason: "How the hub says who somebody is.", resources: "configmaps", verbs: read, namespace: "kube-system", name: "extension-apiserver-authentication"},
	"ListsClusters": {reason: "As everybody.", group: "proxy.sallyport.dev", resources: "clusters", verbs: read},

	"Kubeconfigs":  {reason: "S8: it has no credential that delivers anything.", resources: "secrets", verbs: read + " " + write, namespace: namespace, refused: true},
	"OtherSecrets": {reason: "S24: nor anybody's.", resources: "secrets", verbs: read, refused: true},
	"OwnWrites":    {reason: "The controller makes routes; the gateway follows them.", resources: "secrets configmaps pods", verbs: write, namespace: gatewayNamespace, refused: true},
	"Proxy":        {reason: "It may not use its own way.", group: "proxy.sallyport.dev", resources: "clusters/proxy", verbs: "get " + write, refused: true},
	"KarmadaProxy": {reason: "Nor another's.", group: "cluster.karmada.io", resources: "clusters/proxy", verbs: "get " + write, refused: true},
	"Impersonate":  {reason: "S7: on the hub it is nobody else.", resources: "users groups serviceaccounts", verbs: "impersonate", refused: true},
	"Grant":        {reason: "Who decides by grants makes none.", group: "access.sallyport.dev", resources: "accessgrants accessgrants/status accessroles guardrails guardrailexceptions", verbs: write, refused: true},
	"RBAC":         {reason: "It gives nothing.", group: "rbac.authorization.k8s.io", resources: "clusterroles clusterrolebindings roles rolebindings", verbs: write + " escalate bind", refused: true},
	"Tokens":       {reason: "It makes no tokens.", resources: "serviceaccounts/token", verbs: "create", refused: true},
	"APIServices":  {reason: "It does not put itself in the way.", group: "apiregistration.k8s.io", resources: "apiservices", verbs: write, refused: true},
	"Workloads":    {reason: "It runs nothing.", resources: "pods pods/exec", verbs: "get list create", refused: true},
}

// TestGatewayInstall: config/gateway is taken by a real API server, beside config/default,
// and gives the gateway what it needs and nothing else.
func TestGatewayInstall(t *testing.T) {
	hub := controlplane.ForTest(t, controlplane.Options{}).Hub
	admin := clientFor(t, hub.AdminConfig())
	must(t, admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	for _, object := range build(t, "../../config/gateway") {
		if object.GetKind() == "APIService" {
			continue // its Service leads nowhere here
		}
		if err := admin.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test")); err != nil {
			t.Fatalf("cannot apply %s %q: %v", object.GetKind(), object.GetName(), err)
		}
	}
	cfg, err := hub.ServiceAccount(t.Context(), gatewayNamespace, "sallyport-gateway")
	must(t, err)
	t.Run("Rights", func(t *testing.T) { testRights(t, kubernetes.NewForConfigOrDie(cfg), gatewayRights) })
	t.Run("RightsAreTold", testGatewayRightsAreTold)
	t.Run("PodSecurity", func(t *testing.T) {
		var d appsv1.Deployment
		must(t, admin.Get(t.Context(), client.ObjectKey{Namespace: gatewayNamespace, Name: "sallyport-gateway"}, &d))
		pod := &corev1.Pod{ObjectMeta: d.Spec.Template.ObjectMeta, Spec: d.Spec.Template.Spec}
		pod.Namespace, pod.GenerateName = gatewayNamespace, "try-"
		must(t, admin.Create(t.Context(), pod, client.DryRunAll))
		pod.Spec.Containers[0].SecurityContext = nil
		pod.ResourceVersion, pod.Name = "", ""
		if err := admin.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
			t.Errorf("a pod without a security context got %v, want it forbidden", err)
		}
	})
	t.Run("Everybody", func(t *testing.T) {
		someone, err := hub.User("someone")
		must(t, err)
		client := kubernetes.NewForConfigOrDie(someone)
		for verb, want := range map[string]bool{"get": true, "list": true, "watch": true, "create": false, "delete": false} {
			if got := (question{verb: verb, group: "proxy.sallyport.dev", resource: "clusters"}).ask(t.Context(), t, client); got != want {
				t.Errorf("everybody may %s clusters: %t", verb, got)
			}
		}
		if (question{verb: "get", group: "proxy.sallyport.dev", resource: "clusters/proxy", name: "prod-1"}).ask(t.Context(), t, client) {
			t.Error("everybody may use clusters/proxy")
		}
	})
}

// testGatewayRightsAreTold: what the manifests give, the table gives a reason for.
func testGatewayRightsAreTold(t *testing.T) {
	told := map[question]bool{}
	for _, r := range gatewayRights {
		for _, resource := range strings.Fields(r.resources) {
			for _, verb := range strings.Fields(r.verbs) {
				if !r.refused {
					told[question{verb, r.group, resource, r.namespace, r.name}] = true
				}
			}
		}
	}
	for _, object := range build(t, "../../config/gateway") {
		if !strings.HasSuffix(object.GetKind(), "Role") || object.GetName() == "sallyport-routes" {
			continue // what the controller may do there is told elsewhere
		}
		var role rbacv1.ClusterRole
		must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &role))
		for _, rule := range role.Rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						if q := (question{verb, group, resource, role.Namespace, ""}); !told[q] {
							t.Errorf("%s %q gives %s %s.%s, for which no test gives a reason", object.GetKind(), role.Name, verb, resource, group)
						}
					}
				}
			}
		}
	}
}

// TestGatewayManifests: the parts that have to fit fit.
func TestGatewayManifests(t *testing.T) {
	var d appsv1.Deployment
	var s corev1.Service
	var p networkingv1.NetworkPolicy
	var a apiregistrationv1.APIService
	kinds := map[string]any{"Deployment": &d, "Service": &s, "NetworkPolicy": &p, "APIService": &a}
	told := false
	for _, o := range build(t, "testdata/gateway-cert-manager") {
		if o.GetKind() == "Deployment" && o.GetNamespace() == namespace {
			var controller appsv1.Deployment
			must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &controller))
			told = slices.Contains(controller.Spec.Template.Spec.Containers[0].Args, "--gateway-namespace="+gatewayNamespace)
		}
		if into, ok := kinds[o.GetKind()]; ok && o.GetNamespace() != namespace {
			must(t, runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, into))
		}
	}
	if !told {
		t.Error("the controller makes no routes")
	}
	container := d.Spec.Template.Spec.Containers[0]
	port := slices.IndexFunc(container.Ports, func(p corev1.ContainerPort) bool { return p.Name == s.Spec.Ports[0].TargetPort.StrVal })
	if port < 0 || !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(d.Spec.Template.Labels)) {
		t.Fatal("the Service does not lead to the Deployment's pods")
	}
	if *d.Spec.Replicas < 2 {
		t.Error("one replica is none while it is replaced")
	}
	ref := a.Spec.Service
	if ref.Name != s.Name || ref.Namespace != s.Namespace || *ref.Port != s.Spec.Ports[0].Port || a.Name != a.Spec.Version+"."+a.Spec.Group {
		t.Errorf("APIService %q leads to %+v", a.Name, ref)
	}
	if a.Spec.InsecureSkipTLSVerify {
		t.Error("the hub would believe any certificate")
	}
	if got := a.Annotations["cert-manager.io/inject-ca-from"]; got != "sallyport-gateway/sallyport-gateway" {
		t.Errorf("the authority is injected from %q", got)
	}
	for _, c := range container.Ports {
		if !slices.ContainsFunc(p.Spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool {
			open := c.Name != "metrics"
			return (len(r.From) == 0) == open && slices.ContainsFunc(r.Ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == c.ContainerPort })
		}) {
			t.Errorf("the NetworkPolicy has no proper rule for port %s", c.Name)
		}
	}
}

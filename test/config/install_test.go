package config_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const (
	namespace = "sallyport-system"
	account   = "sallyport-controller"
)

type refuseWarnings struct{ t *testing.T }

func (r refuseWarnings) HandleWarningHeader(_ int, _, text string) {
	r.t.Errorf("the API server warns: %s", text)
}

func TestInstall(t *testing.T) {
	rest.SetDefaultWarningHandler(refuseWarnings{t})
	// The controller manager fills the aggregated roles.
	hub := controlplane.ForTest(t, controlplane.Options{ControllerManager: true}).Hub
	admin := clientFor(t, hub.AdminConfig())
	for _, object := range build(t, "../../config/default") {
		if err := admin.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test")); err != nil {
			t.Fatalf("cannot apply %s %q: %v", object.GetKind(), object.GetName(), err)
		}
	}
	cfg, err := hub.ServiceAccount(t.Context(), namespace, account)
	if err != nil {
		t.Fatal(err)
	}
	sallyport := clientFor(t, cfg)

	t.Run("PodSecurity", func(t *testing.T) { testPodSecurity(t, admin) })
	t.Run("Rights", func(t *testing.T) { testRights(t, kubernetes.NewForConfigOrDie(cfg), rights) })
	t.Run("Routes", func(t *testing.T) { testRouteRights(t, admin, kubernetes.NewForConfigOrDie(cfg)) })
	t.Run("Escalation", func(t *testing.T) { testEscalation(t, sallyport) })
	t.Run("OnlyItsOwn", func(t *testing.T) { testOnlyItsOwn(t, admin, sallyport) })
	t.Run("Webhook", func(t *testing.T) { testWebhook(t, admin) })
	t.Run("Forgery", func(t *testing.T) { testForgery(t, hub, admin, sallyport) })
	t.Run("People", func(t *testing.T) { testPeople(t, hub, admin) })
	t.Run("GitSync", func(t *testing.T) { testGitSync(t, admin, kubernetes.NewForConfigOrDie(cfg)) })
}

// testPodSecurity creates the pods that the Deployment would, in the namespace
// with its Pod Security labels: a warning or a refusal fails.
func testPodSecurity(t *testing.T, admin client.Client) {
	var deployment appsv1.Deployment
	if err := admin.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: account}, &deployment); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{ObjectMeta: deployment.Spec.Template.ObjectMeta, Spec: deployment.Spec.Template.Spec}
	pod.Namespace, pod.GenerateName = namespace, "try-"
	if err := admin.Create(t.Context(), pod, client.DryRunAll); err != nil {
		t.Errorf("the Deployment's pod is refused: %v", err)
	}
	pod.Spec.Containers[0].SecurityContext = nil
	pod.ResourceVersion, pod.Name = "", ""
	if err := admin.Create(t.Context(), pod, client.DryRunAll); !apierrors.IsForbidden(err) {
		t.Errorf("a pod without a security context got %v, want it forbidden", err)
	}
}

// proxyRole gives what a grant gives on the hub: the way to some clusters.
func proxyRole(rules ...rbacv1.PolicyRule) *rbacv1.ClusterRole {
	return &rbacv1.ClusterRole{ObjectMeta: own("try-role"), Rules: rules}
}

func own(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Labels: map[string]string{"app.kubernetes.io/managed-by": "sallyport"}}
}

func binding(role string) *rbacv1.ClusterRoleBinding {
	return &rbacv1.ClusterRoleBinding{
		ObjectMeta: own("try-binding"),
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "Group", Name: "payments-oncall"}},
	}
}

// testEscalation: the API server's own escalation check bounds what Sallyport can
// give on the hub to clusters/proxy.
func testEscalation(t *testing.T, sallyport client.Client) {
	rule := func(group, resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, ResourceNames: []string{"prod-eu-1", "prod-us-1"}, Verbs: verbs}
	}
	every := []string{"get", "create", "update", "patch", "delete"}
	if err := sallyport.Create(t.Context(), proxyRole(rule("cluster.karmada.io", "clusters/proxy", every...), rule("proxy.sallyport.dev", "clusters/proxy", "get"))); err != nil {
		t.Fatalf("the hub side of a grant is refused: %v", err)
	}
	if err := sallyport.Create(t.Context(), binding("try-role")); err != nil {
		t.Fatalf("its binding is refused: %v", err)
	}
	for name, tc := range map[string]struct {
		reason string
		object client.Object
	}{
		"Secrets":      {"Nothing of the hub itself is Sallyport's to give.", proxyRole(rule("", "secrets", "get"))},
		"Clusters":     {"Nor are the clusters themselves, apart from reading them.", proxyRole(rule("cluster.karmada.io", "clusters", "update"))},
		"EveryVerb":    {"A star covers verbs that no request to a proxy has.", proxyRole(rule("cluster.karmada.io", "clusters/proxy", "*"))},
		"EveryGroup":   {"S17: a star covers look-alike groups.", proxyRole(rule("*", "clusters/proxy", "get"))},
		"LookAlike":    {"S17: groups are exact.", proxyRole(rule("cluster.karmada.io.example.com", "clusters/proxy", "get"))},
		"ClusterAdmin": {"A binding is an escalation like a role.", binding("cluster-admin")},
		"View":         {"Also to a small role.", binding("view")},
	} {
		t.Run(name, func(t *testing.T) {
			err := sallyport.Create(t.Context(), tc.object, client.DryRunAll)
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "attempting to grant RBAC permissions not currently held") {
				t.Errorf("%s\ngot %v, want the escalation check to refuse", tc.reason, err)
			}
		})
	}
}

// testOnlyItsOwn is rule 8 of the design, kept by the API server.
func testOnlyItsOwn(t *testing.T, admin, sallyport client.Client) {
	ctx := t.Context()
	foreign := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "not-ours"}}
	if err := admin.Create(ctx, foreign); err != nil {
		t.Fatal(err)
	}
	unlabelled := proxyRole()
	unlabelled.Name, unlabelled.Labels = "unlabelled", nil
	seized := foreign.DeepCopy()
	seized.Labels = own("").Labels
	orphaned := proxyRole()
	orphaned.Labels = nil
	// The policy takes a moment to be in force.
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		return apierrors.IsInvalid(sallyport.Create(ctx, unlabelled, client.DryRunAll)), nil
	})
	if err != nil {
		t.Fatalf("an object without the label can be made: %v", sallyport.Create(ctx, unlabelled, client.DryRunAll))
	}
	for name, try := range map[string]func() error{
		"delete another's":       func() error { return sallyport.Delete(ctx, foreign, client.DryRunAll) },
		"make another's its own": func() error { return sallyport.Update(ctx, seized, client.DryRunAll) },
		"delete cluster-admin": func() error {
			return sallyport.Delete(ctx, &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "cluster-admin"}})
		},
		"take the label off its own": func() error {
			return sallyport.Patch(ctx, proxyRole(), client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"labels":null}}`)), client.DryRunAll)
		},
		"make one that has no labels": func() error { return sallyport.Create(ctx, unlabelled, client.DryRunAll) },
	} {
		if err := try(); !apierrors.IsInvalid(err) || !strings.Contains(err.Error(), "app.kubernetes.io/managed-by=sallyport") {
			t.Errorf("Sallyport could %s: got %v, want the policy to refuse", name, err)
		}
	}
	for _, mine := range []client.Object{binding("try-role"), proxyRole()} {
		if err := sallyport.Delete(ctx, mine); err != nil {
			t.Errorf("its own %s %q: %v", mine.GetObjectKind().GroupVersionKind().Kind, mine.GetName(), err)
		}
	}
	if err := admin.Delete(ctx, foreign); err != nil {
		t.Errorf("the policy is in the way of others: %v", err)
	}
}

// testPeople: who may view a namespace sees its grants; who may edit or administer
// it can not write them.
func testPeople(t *testing.T, hub *controlplane.ControlPlane, admin client.Client) {
	ctx := t.Context()
	if err := admin.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}}); err != nil {
		t.Fatal(err)
	}
	list := question{verb: "list", group: "access.sallyport.dev", resource: "accessgrants", namespace: "payments"}
	create := list
	create.verb = "create"
	for role, want := range map[string]map[question]bool{
		"view":                         {list: true, create: false},
		"edit":                         {list: true, create: false},
		"admin":                        {list: true, create: false},
		"sallyport-accessgrant-editor": {list: true, create: true},
	} {
		t.Run(role, func(t *testing.T) {
			bound := &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: role},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
				Subjects:   []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "holder-of-" + role}},
			}
			if err := admin.Create(ctx, bound); err != nil {
				t.Fatal(err)
			}
			cfg, err := hub.User("holder-of-" + role)
			if err != nil {
				t.Fatal(err)
			}
			person := kubernetes.NewForConfigOrDie(cfg)
			var got map[question]bool
			// Aggregation takes a moment.
			_ = wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, 20*time.Second, true, func(ctx context.Context) (bool, error) {
				got = map[question]bool{}
				for q := range want {
					got[q] = q.ask(ctx, t, person)
				}
				return cmp.Equal(got, want, cmp.AllowUnexported(question{})), nil
			})
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(question{})); diff != "" {
				t.Errorf("what the holder of %s may do (-want +got):\n%s", role, diff)
			}
		})
	}
}

// testGitSync: without the component the account cannot write grants; with it, it
// can, and the controller is told what to sync.
func testGitSync(t *testing.T, admin client.Client, sallyport *kubernetes.Clientset) {
	for _, object := range build(t, "testdata/git-sync") {
		if err := admin.Apply(t.Context(), client.ApplyConfigurationFromUnstructured(object), client.FieldOwner("test")); err != nil {
			t.Fatalf("cannot apply %s %q: %v", object.GetKind(), object.GetName(), err)
		}
	}
	testRights(t, sallyport, gitSyncRights)

	var deployment appsv1.Deployment
	if err := admin.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: account}, &deployment); err != nil {
		t.Fatal(err)
	}
	container := deployment.Spec.Template.Spec.Containers[0]
	wantArgs := []string{"controller", "--leader-elect", "--git-url=$(GIT_URL)", "--git-branch=$(GIT_BRANCH)", "--git-path=$(GIT_PATH)", "--git-auth-dir=/etc/sallyport/git"}
	if diff := cmp.Diff(wantArgs, container.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	got := map[string]string{}
	for _, env := range container.Env {
		if env.ValueFrom == nil || env.ValueFrom.ConfigMapKeyRef == nil {
			continue
		}
		var settings corev1.ConfigMap
		if err := admin.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: env.ValueFrom.ConfigMapKeyRef.Name}, &settings); err != nil {
			t.Fatalf("%s: %v", env.Name, err)
		}
		got[env.Name] = settings.Data[env.ValueFrom.ConfigMapKeyRef.Key]
	}
	want := map[string]string{"GIT_URL": "https://git.example.com/platform/access.git", "GIT_BRANCH": "main", "GIT_PATH": "."}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func clientFor(t *testing.T, cfg *rest.Config) client.Client {
	t.Helper()
	s, err := controllers.Scheme()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(cfg, client.Options{Scheme: s})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

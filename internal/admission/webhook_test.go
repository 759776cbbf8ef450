package admission_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/admission"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const system = "sallyport-system"

// world is a hub of which the API server asks a webhook that runs here.
type world struct {
	*testing.T
	hub   *controlplane.ControlPlane
	admin client.Client // as one of system:masters
	// warnings that the API server sent to admin.
	warnings *warnings
	policy   *swappable
	port     int
}

// warnings collects what the API server warns of.
type warnings struct {
	mu   sync.Mutex
	told []string
}

func (w *warnings) HandleWarningHeader(_ int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, text)
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

// swappable is a policy that changes between requests.
type swappable struct {
	mu  sync.Mutex
	set *guardrail.Set
}

func (s *swappable) Current(context.Context) (*guardrail.Set, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.set, nil
}

func (s *swappable) Live(ctx context.Context) (*guardrail.Set, error) { return s.Current(ctx) }

func (s *swappable) become(all ...*guardrail.Guardrail) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set = guardrail.NewSet(all, nil, guardrail.Options{})
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func newWorld(t *testing.T) *world {
	ctrl.SetLogger(logr.Discard())
	w := &world{T: t, hub: controlplane.ForTest(t, controlplane.Options{}).Hub, policy: &swappable{}, warnings: &warnings{}, port: freePort(t)}
	w.policy.become()
	config := rest.CopyConfig(w.hub.AdminConfig())
	config.WarningHandler = w.warnings
	var err error
	w.admin, err = client.New(config, client.Options{Scheme: hubScheme(t)})
	w.must(err)
	w.must(w.hub.InstallCRDs(t.Context(), "../../config/crd/bases"))
	w.must(w.admin.Create(t.Context(), ns(system)))
	w.must(w.admin.Create(t.Context(), ns("payments")))
	w.install()
	return w
}

func hubScheme(t *testing.T) *runtime.Scheme {
	s := scheme(t)
	if err := apiextensionsv1.AddToScheme(s); err != nil {
		t.Fatal(err)
	}
	return s
}

// install the manifests. Only where the Service leads is another than in a cluster.
func (w *world) install() {
	w.Helper()
	built, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), "testdata/hub")
	w.must(err)
	for _, r := range built.Resources() {
		content, err := r.Map()
		w.must(err)
		o := &unstructured.Unstructured{Object: content}
		switch o.GetKind() {
		case "Service":
			o.Object["spec"] = map[string]any{"type": "ExternalName", "externalName": "localhost"}
		case "ValidatingWebhookConfiguration":
			hooks := o.Object["webhooks"].([]any)
			for _, hook := range hooks {
				w.must(unstructured.SetNestedField(hook.(map[string]any), int64(w.port), "clientConfig", "service", "port"))
			}
		}
		w.must(w.admin.Apply(w.Context(), client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("test"), client.ForceOwnership))
	}
	// What the controllers read beside.
	read := []string{"get", "list", "watch"}
	w.must(client.IgnoreAlreadyExists(w.admin.Create(w.Context(), &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "read"}, Rules: []rbacv1.PolicyRule{
		{APIGroups: []string{v1alpha1.GroupVersion.Group}, Resources: []string{"*"}, Verbs: read},
		{APIGroups: []string{""}, Resources: []string{"namespaces"}, Verbs: read},
	}})))
	w.must(client.IgnoreAlreadyExists(w.admin.Create(w.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "read"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "read"},
		Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: system, Name: "sallyport-controller"}},
	})))
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// serve the webhook with the rights of the manifests, until stop.
func (w *world) serve(port int, certDir string) (stop func()) {
	w.Helper()
	config, err := w.hub.ServiceAccount(w.Context(), system, "sallyport-controller")
	w.must(err)
	unnamed := true
	o := ctrl.Options{Scheme: hubScheme(w.T), HealthProbeBindAddress: "0"}
	o.Metrics.BindAddress = "0"
	o.Controller.SkipNameValidation = &unnamed
	mgr, err := ctrl.NewManager(config, o)
	w.must(err)
	w.must(admission.Setup(mgr, admission.Options{
		Addr: fmt.Sprintf("localhost:%d", port), CertDir: certDir, Namespace: system, Policy: w.policy,
		Inventory: members{{Name: "prod-eu-1", Labels: map[string]string{"env": "prod"}, Accepted: true, Delivery: fleet.ManifestWork}},
	}))
	ctx, cancel := context.WithCancel(w.Context())
	done := make(chan error, 1)
	go func() { done <- mgr.Start(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			w.Errorf("the manager stopped with: %v", err)
		}
	}
	w.Cleanup(stop)
	return stop
}

// eventually waits for what takes a moment. It says what is missing, "" for nothing.
func (w *world) eventually(what string, missing func() string) {
	w.Helper()
	last := ""
	err := wait.PollUntilContextTimeout(w.Context(), 50*time.Millisecond, 2*time.Minute, true, func(context.Context) (bool, error) {
		last = missing()
		return last == "", nil
	})
	if err != nil {
		w.Fatalf("not so: %s: %s", what, last)
	}
}

// in a subtest.
func (w *world) in(t *testing.T) *world {
	sub := *w
	sub.T = t
	return &sub
}

// asked waits until the API server has the webhook asked.
func (w *world) asked() {
	w.Helper()
	w.policy.become(rail("probe", says("asked")))
	w.eventually("the webhook is asked", func() string {
		err := w.admin.Create(w.Context(), grant("probe"), client.DryRunAll)
		if err == nil || !strings.Contains(err.Error(), "asked") {
			return fmt.Sprint(err)
		}
		return ""
	})
	w.policy.become()
	w.warnings.take()
}

// TestWebhook asks a real API server.
func TestWebhook(t *testing.T) {
	w := newWorld(t)
	stop := w.serve(w.port, "")
	other := w.serve(freePort(t), "") // a second replica, that shares Secret and configuration
	w.asked()
	t.Run("Grants", func(t *testing.T) { w.in(t).testGrants() })
	t.Run("EveryVersion", func(t *testing.T) { w.in(t).testEveryVersion() })
	t.Run("Policy", func(t *testing.T) { w.in(t).testPolicy() })
	t.Run("Rotation", func(t *testing.T) { w.in(t).testRotation() })
	t.Run("AppliedAgain", func(t *testing.T) { w.in(t).testAppliedAgain() })
	t.Run("Files", func(t *testing.T) { w.in(t).testFiles() })
	t.Run("Garbage", func(t *testing.T) { w.in(t).testGarbage() })
	other()
	t.Run("Down", func(t *testing.T) { w.in(t).testDown(stop) })
}

const noExecMessage = `admission webhook "grants.guardrails.sallyport.dev" denied the request: guardrail "no-exec": no exec in prod (spec.access[0])`

func forbidden(t *testing.T, what string, err error) {
	t.Helper()
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), noExecMessage) {
		t.Errorf("%s: got %v, want it refused", what, err)
	}
}

// testGrants: S27. What a guardrail refuses, whoever asks, and what it lets pass.
func (w *world) testGrants() {
	t := w.T
	ctx := t.Context()
	standing := grant("standing", exec, func(g *v1alpha1.AccessGrant) { g.Finalizers = []string{v1alpha1.AccessGrantFinalizer} })
	w.must(w.admin.Create(ctx, standing))
	w.policy.become(rail("no-exec", noExec), rail("mind", noExec, enforced(v1alpha1.EnforcementWarn)))
	defer w.policy.become()

	forbidden(t, "create", w.admin.Create(ctx, grant("oncall", exec)))
	forbidden(t, "dry run", w.admin.Create(ctx, grant("oncall", exec), client.DryRunAll))
	named := grant("", exec)
	named.GenerateName = "oncall-"
	forbidden(t, "create with a generated name", w.admin.Create(ctx, named))
	harmless := grant("oncall")
	w.must(w.admin.Create(ctx, harmless))
	forbidden(t, "update", w.admin.Update(ctx, grant("oncall", exec, func(g *v1alpha1.AccessGrant) { g.ResourceVersion = harmless.ResourceVersion })))
	patch := client.RawPatch(types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/access/0/rules/0/resources","value":["pods/exec"]}]`))
	forbidden(t, "patch", w.admin.Patch(ctx, harmless, patch))
	raw, err := json.Marshal(grant("applied", exec))
	w.must(err)
	applied := &unstructured.Unstructured{}
	w.must(json.Unmarshal(raw, &applied.Object))
	applied.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(v1alpha1.AccessGrantKind))
	unstructured.RemoveNestedField(applied.Object, "status")
	unstructured.RemoveNestedField(applied.Object, "metadata", "creationTimestamp")
	forbidden(t, "server-side apply", w.admin.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), client.FieldOwner("test")))

	w.warnings.take()
	w.policy.become(rail("mind", noExec, enforced(v1alpha1.EnforcementWarn)))
	w.must(w.admin.Create(ctx, grant("warned", exec), client.DryRunAll))
	if diff := cmp.Diff([]string{`guardrail "mind": no exec in prod (spec.access[0])`}, w.warnings.take()); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}

	w.policy.become(rail("no-exec", noExec))
	w.must(w.admin.Delete(ctx, standing))
	w.must(w.admin.Get(ctx, client.ObjectKeyFromObject(standing), standing))
	if standing.DeletionTimestamp.IsZero() {
		t.Fatal("the grant is not being deleted")
	}
	more := standing.DeepCopy()
	more.Spec.Subjects = append(more.Spec.Subjects, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: "bob"})
	forbidden(t, "update of what is being deleted", w.admin.Update(ctx, more))
	standing.Finalizers = nil
	if err := w.admin.Update(ctx, standing); err != nil {
		t.Errorf("a refused grant cannot be revoked: %v", err)
	}
	w.must(w.admin.Delete(ctx, harmless))
}

// testEveryVersion: S27. Each version that the hub serves is asked about, of each
// kind, and a version that no Sallyport knows yet is refused.
func (w *world) testEveryVersion() {
	t := w.T
	ctx := t.Context()
	var crd apiextensionsv1.CustomResourceDefinition
	w.must(w.admin.Get(ctx, client.ObjectKey{Name: "accessgrants." + v1alpha1.GroupVersion.Group}, &crd))
	later := crd.Spec.Versions[0].DeepCopy()
	later.Name, later.Storage = "v9", false
	crd.Spec.Versions = append(crd.Spec.Versions, *later)
	w.must(w.admin.Update(ctx, &crd))
	w.policy.become(rail("no-exec", noExec))
	defer w.policy.become()
	for _, version := range crd.Spec.Versions {
		raw, err := json.Marshal(grant("version", exec))
		w.must(err)
		object := &unstructured.Unstructured{}
		w.must(json.Unmarshal(raw, &object.Object))
		unstructured.RemoveNestedField(object.Object, "status")
		object.SetGroupVersionKind(schema.GroupVersionKind{Group: v1alpha1.GroupVersion.Group, Version: version.Name, Kind: v1alpha1.AccessGrantKind})
		w.eventually("version "+version.Name+" is served and refused", func() string {
			err := w.admin.Create(ctx, object.DeepCopy())
			if err == nil {
				t.Fatalf("version %s is not asked about", version.Name)
			}
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "admission webhook") {
				return err.Error() // not served yet
			}
			return ""
		})
	}
	w.must(w.admin.Get(ctx, client.ObjectKeyFromObject(&crd), &crd))
	crd.Spec.Versions = crd.Spec.Versions[:1]
	w.must(w.admin.Update(ctx, &crd))
}

// testPolicy: guardrails, exceptions and roles, as their authors meet the webhook.
func (w *world) testPolicy() {
	t := w.T
	ctx := t.Context()
	w.must(w.admin.Create(ctx, grant("stands", exec)))
	w.eventually("the warning of what will be revoked", func() string {
		w.warnings.take()
		w.must(w.admin.Create(ctx, ceiling(), client.DryRunAll))
		if diff := cmp.Diff([]string{"1 grant that stands will be revoked: payments/stands"}, w.warnings.take()); diff != "" {
			return diff // the cache has not seen the grant
		}
		return ""
	})
	invalid := ceiling(func(g *v1alpha1.Guardrail) {
		g.Spec.Match = &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Selector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Near"}},
		}}}
	})
	err := w.admin.Create(ctx, invalid)
	if e, ok := err.(apierrors.APIStatus); !ok || !apierrors.IsInvalid(err) || !strings.HasPrefix(e.Status().Details.Causes[0].Field, "spec.match") {
		t.Errorf("a guardrail that does not compile got %v", err)
	}
	w.policy.become(rail("no-exec", noExec))
	defer w.policy.become()
	err = w.admin.Create(ctx, exception(time.Hour))
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `guardrail "no-exec" allows no exceptions`) {
		t.Errorf("an exception that never counts got %v", err)
	}
	w.policy.become()
	harmless := role("pods")
	w.must(w.admin.Create(ctx, harmless))
	w.must(w.admin.Create(ctx, grant("by-role", ofRole)))
	w.policy.become(rail("no-exec", noExec))
	harmless.Spec = role("pods/exec").Spec
	w.eventually("a role that its grants do not survive is refused", func() string {
		err := w.admin.Update(ctx, harmless, client.DryRunAll)
		if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), "payments/by-role") {
			return fmt.Sprint(err) // the cache has not seen the grant
		}
		return ""
	})
}

// served is what the webhook shows.
func (w *world) served() string { return w.servedAt(w.port) }

func (w *world) servedAt(port int) string {
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(w.Context(), "tcp", fmt.Sprintf("localhost:%d", port))
	if err != nil {
		return ""
	}
	defer conn.Close()
	return string(conn.(*tls.Conn).ConnectionState().PeerCertificates[0].Raw)
}

// testRotation: the certificate and its authority are replaced, without a restart,
// while the API server goes on asking; nothing is refused for it, and nothing passes.
func (w *world) testRotation() {
	t := w.T
	w.policy.become(rail("no-exec", noExec))
	defer w.policy.become()
	ctx, cancel := context.WithCancel(t.Context())
	asking := make(chan int)
	go func() {
		n := 0
		for ; ctx.Err() == nil; n++ {
			err := w.admin.Create(t.Context(), grant("rotation", exec), client.DryRunAll)
			if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), noExecMessage) {
				t.Errorf("while the certificate is replaced: %v", err)
			}
		}
		asking <- n
	}()
	for what, keys := range map[string][]string{
		"certificate": {corev1.TLSCertKey, corev1.TLSPrivateKeyKey},
		"authority":   {"ca.key"},
	} {
		before := w.served()
		var secret corev1.Secret
		key := client.ObjectKey{Namespace: system, Name: admission.DefaultSecret}
		w.must(w.admin.Get(t.Context(), key, &secret))
		taken := client.MergeFrom(secret.DeepCopy())
		for _, k := range keys {
			delete(secret.Data, k)
		}
		w.must(w.admin.Patch(t.Context(), &secret, taken))
		w.eventually("another "+what+" is served", func() string {
			if now := w.served(); now == "" || now == before {
				return "the same"
			}
			return ""
		})
	}
	cancel()
	if n := <-asking; n == 0 {
		t.Error("nobody asked meanwhile")
	}
}

// testAppliedAgain: who applies the manifests again takes away neither certificate
// nor trust.
func (w *world) testAppliedAgain() {
	t := w.T
	before := w.served()
	w.install()
	w.policy.become(rail("no-exec", noExec))
	defer w.policy.become()
	forbidden(t, "after the manifests were applied again", w.admin.Create(t.Context(), grant("again", exec), client.DryRunAll))
	var c admissionregistrationv1.ValidatingWebhookConfiguration
	w.must(w.admin.Get(t.Context(), client.ObjectKey{Name: admission.DefaultConfiguration}, &c))
	for _, hook := range c.Webhooks {
		if len(hook.ClientConfig.CABundle) == 0 {
			t.Errorf("webhook %q trusts nobody", hook.Name)
		}
	}
	if w.served() != before {
		t.Error("another certificate is served")
	}
}

// testFiles: a certificate of somebody else's is served, and the next one when it
// takes its place. The Secret is left alone.
func (w *world) testFiles() {
	t := w.T
	dir, port := t.TempDir(), freePort(t)
	replace := func() (served string) {
		cert, key, err := w.hub.ServingCertificate("sallyport-webhook.sallyport-system.svc")
		w.must(err)
		for name, content := range map[string][]byte{"tls.key": key, "tls.crt": cert} {
			w.must(os.WriteFile(dir+"/next", content, 0o600))
			w.must(os.Rename(dir+"/next", dir+"/"+name))
		}
		block, _ := pem.Decode(cert)
		return string(block.Bytes)
	}
	first := replace()
	w.serve(port, dir)
	for _, want := range []func() string{func() string { return first }, replace} {
		now := want()
		w.eventually("the certificate of the files is served", func() string {
			if w.servedAt(port) != now {
				return "another, or none"
			}
			return ""
		})
	}
}

// testGarbage: what no API server would send is refused, and bounded.
func (w *world) testGarbage() {
	t := w.T
	insecure := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	for name, body := range map[string]string{
		"empty": "", "no JSON": "{", "no review": "{}", "too much": `{"kind":"` + strings.Repeat("x", 5<<20) + `"}`,
	} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, fmt.Sprintf("https://localhost:%d%s", w.port, admission.Path), strings.NewReader(body))
		w.must(err)
		request.Header.Set("Content-Type", "application/json")
		response, err := insecure.Do(request)
		if err != nil {
			continue // cut off
		}
		content, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if strings.Contains(string(content), `"allowed":true`) {
			t.Errorf("%s: %s", name, content)
		}
	}
}

// testDown: S16. Without the webhook nothing new is taken, and what takes access away
// is not kept from it.
func (w *world) testDown(stop func()) {
	t := w.T
	ctx := t.Context()
	w.must(w.admin.Create(ctx, grant("last")))
	w.must(w.admin.Create(ctx, ceiling(func(g *v1alpha1.Guardrail) { g.Spec.Enforcement = v1alpha1.EnforcementWarn })))
	stop()
	for what, o := range map[string]client.Object{"grant": grant("next"), "guardrail": ceiling(func(g *v1alpha1.Guardrail) { g.Name = "next" })} {
		if err := w.admin.Create(ctx, o); !apierrors.IsInternalError(err) || !strings.Contains(err.Error(), "failed calling webhook") {
			t.Errorf("a %s without the webhook: got %v, want it refused", what, err)
		}
	}
	if err := w.admin.Delete(ctx, grant("last")); err != nil {
		t.Errorf("a grant cannot be deleted without the webhook: %v", err)
	}
	if err := w.admin.Delete(ctx, ceiling()); err != nil {
		t.Errorf("a guardrail cannot be deleted without the webhook: %v", err)
	}
}

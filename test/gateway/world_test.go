package gateway_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/test/controlplane"
	"github.com/sallyport-dev/sallyport/test/install"
)

const (
	// Of the two members, west is behind a wire that a test can cut.
	east, west = "east", "west"
	// payments is the team's namespace, on hub and members.
	payments = "payments"
	// gates and controls are what the gateway and the controller are called in the
	// fleet.
	gates, controls = "sallyport-gateway", "sallyport-controller"
	// patience is for a machine that is busy with other tests as well.
	patience = 2 * time.Minute
)

const overlay = `apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
resources: [../config/default, ../config/gateway]
`

// world is all that runs. The tests of this package share one: each has people, grants
// and guardrails of its own, and leaves what runs as it was.
type world struct {
	fleet     *controlplane.Fleet
	sallyport *install.Installation
	hub       client.WithWatch
	wire      *wire  // to west
	kubectl   string // path of the program
	decisions string // path of the decision log
}

var shared struct {
	once  sync.Once
	world *world
	err   error
}

func TestMain(m *testing.M) {
	ctrl.SetLogger(zap.New(zap.WriteTo(os.Stderr)))
	code := m.Run()
	if w := shared.world; w != nil {
		if code != 0 {
			w.logs()
		}
		if err := w.fleet.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// logs of the programs under test, their ends.
func (w *world) logs() {
	for _, name := range []string{gates, controls} {
		raw, err := os.ReadFile(filepath.Join(w.fleet.Dir(), "logs", name+".log"))
		if err != nil {
			continue
		}
		lines := strings.Split(string(raw), "\n")
		fmt.Fprintf(os.Stderr, "%s:\n%s\n", name, strings.Join(lines[max(0, len(lines)-20):], "\n"))
	}
}

// theWorld is started by whoever needs it first.
func theWorld(t *testing.T) *world {
	t.Helper()
	if testing.Short() {
		t.Skip("starts control planes")
	}
	shared.once.Do(func() {
		began := time.Now()
		shared.err = start(context.Background())
		t.Logf("the world took %s", time.Since(began).Round(time.Second))
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.world
}

func start(ctx context.Context) (err error) {
	fleet, err := controlplane.Start(ctx, controlplane.Options{
		Members: []string{east, west}, ControllerManager: true, MemberControllerManager: true, Log: os.Stderr,
	})
	if err != nil {
		return err
	}
	w := &world{fleet: fleet, decisions: filepath.Join(fleet.Dir(), "decisions.log")}
	shared.world = w // so that it is stopped, whatever comes
	programs, err := controlplane.Binaries(ctx, os.Stderr, controlplane.Kubectl)
	if err != nil {
		return err
	}
	w.kubectl = programs[controlplane.Kubectl]
	if w.hub, err = newClient(fleet.Hub.AdminConfig()); err != nil {
		return err
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		return err
	}
	w.sallyport = &install.Installation{Fleet: fleet, Hub: w.hub, Root: root, Binary: filepath.Join(fleet.Dir(), "sallyport")}
	group, working := errgroup.WithContext(ctx)
	group.Go(func() error { return install.Build(working, root, w.sallyport.Binary) })
	group.Go(func() error { return w.sallyport.Apply(working, overlay) })
	for _, name := range []string{east, west} {
		group.Go(func() error { return w.furnish(working, name) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := w.enroll(ctx); err != nil {
		return err
	}
	if err := w.sallyport.StartController(ctx); err != nil {
		return err
	}
	return w.startGateway(ctx)
}

func (w *world) startGateway(ctx context.Context) error {
	return w.sallyport.StartGateway(ctx, "--decision-log=file:"+w.decisions, "--help-text=see https://access.example")
}

// furnish gives a member a pod to look at, something not to look at, and a role of its
// own.
func (w *world) furnish(ctx context.Context, name string) error {
	plane := w.fleet.Member(name)
	if err := w.fleet.StartKubelet(ctx, plane); err != nil {
		return err
	}
	c, err := newClient(plane.AdminConfig())
	if err != nil {
		return err
	}
	if err := c.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: payments}}); err != nil {
		return err
	}
	// A pod needs its account, which a controller makes.
	err = install.Until(ctx, patience, func(ctx context.Context) string {
		if err := c.Get(ctx, client.ObjectKey{Namespace: payments, Name: "default"}, &corev1.ServiceAccount{}); err != nil {
			return err.Error()
		}
		return ""
	})
	if err != nil {
		return err
	}
	for _, pod := range []string{"api-0", "vault-0"} {
		if err := plane.RunPod(ctx, payments, pod); err != nil {
			return err
		}
	}
	for _, o := range []client.Object{
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: payments, Name: "card-keys"}, StringData: map[string]string{"key": "not for everyone"}},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "looker"}, Rules: []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"pods"}, Verbs: []string{"get", "list"}}}},
	} {
		if err := c.Create(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// enroll the members, each by a kubeconfig of its administrator's.
func (w *world) enroll(ctx context.Context) error {
	if err := w.hub.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: payments}}); err != nil {
		return err
	}
	to, err := url.Parse(w.fleet.Member(west).URL())
	if err != nil {
		return err
	}
	if w.wire, err = newWire(ctx, to.Host); err != nil {
		return err
	}
	for _, name := range []string{east, west} {
		plane := w.fleet.Member(name)
		config := plane.AdminConfig()
		if name == west {
			config.Host = "https://" + w.wire.address()
		}
		file := filepath.Join(w.fleet.Dir(), "kubeconfigs", "enrolled-"+name)
		if err := plane.WriteKubeconfig(file, config, ""); err != nil {
			return err
		}
		kubeconfig, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		err = w.hub.Create(ctx, &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: install.Namespace, Name: name, Labels: map[string]string{
				v1alpha1.ClusterLabel: name, v1alpha1.FleetLabelPrefix + "side": name,
			}},
			Data: map[string][]byte{"kubeconfig": kubeconfig},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// newClient reads and writes past any cache.
func newClient(config *rest.Config) (client.WithWatch, error) {
	scheme, err := controllers.Scheme()
	if err != nil {
		return nil, err
	}
	return client.NewWithWatch(config, client.Options{Scheme: scheme})
}

// user of the hub, with a client certificate.
func (w *world) user(t *testing.T, name string, groups ...string) *rest.Config {
	t.Helper()
	config, err := w.fleet.Hub.User(name, groups...)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	return config
}

// create what is deleted again when the test ends.
func (w *world) create(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, o := range objects {
		// The admission webhook of a controller that has just started may not answer yet.
		err := install.Until(t.Context(), patience, func(ctx context.Context) string {
			if err := w.hub.Create(ctx, o); err != nil {
				return err.Error()
			}
			return ""
		})
		if err != nil {
			t.Fatalf("cannot create %T %q: %v", o, o.GetName(), err)
		}
		t.Cleanup(func() {
			if err := w.hub.Delete(context.Background(), o); err != nil && !apierrors.IsNotFound(err) {
				t.Errorf("cannot delete %T %q: %v", o, o.GetName(), err)
			}
		})
	}
}

// until polls for a condition, which says what is still missing or "".
func until(t *testing.T, what string, missing func(context.Context) string) {
	t.Helper()
	if err := install.Until(t.Context(), patience, missing); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// grant of rules in payments to a user.
func grant(name, user string, clusters []v1alpha1.ClusterName, rules ...v1alpha1.PolicyRule) *v1alpha1.AccessGrant {
	return &v1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: payments, Name: name},
		Spec: v1alpha1.AccessGrantSpec{
			Reason:   "Payments on-call, PAY-1234",
			Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: user}},
			Clusters: v1alpha1.ClusterSelection{Names: clusters},
			Access:   []v1alpha1.AccessEntry{{Rules: rules, Namespaces: []v1alpha1.NamespaceName{payments}}},
		},
	}
}

func rule(resources string, verbs ...string) v1alpha1.PolicyRule {
	return v1alpha1.PolicyRule{APIGroups: []string{""}, Resources: strings.Split(resources, ","), Verbs: verbs}
}

// everything that kubectl does with a pod. A WebSocket is a get to the gateway and, since
// 1.35, a create to the member.
func onPods() []v1alpha1.PolicyRule {
	return []v1alpha1.PolicyRule{
		rule("pods", "get", "list", "watch"), rule("pods/log", "get"),
		rule("pods/exec,pods/attach,pods/portforward", "get", "create"),
	}
}

// guardrail in CEL that judges requests.
func guardrail(name, expression, message string, points ...v1alpha1.GuardrailPoint) *v1alpha1.Guardrail {
	return &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha1.GuardrailSpec{
			Points: points,
			CEL:    &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: expression, Message: message}}},
		},
	}
}

// way to a member: by the hub's aggregation layer, or to the gateway itself.
type way struct {
	name string
	to   func(w *world, person *rest.Config, member string) *rest.Config
}

var (
	through  = way{"through the hub", func(_ *world, p *rest.Config, m string) *rest.Config { return install.Through(p, m) }}
	directly = way{"directly", func(w *world, p *rest.Config, m string) *rest.Config { return w.sallyport.Directly(p, m) }}
	ways     = []way{through, directly}
)

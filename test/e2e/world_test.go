// Package e2e plays Sallyport's flows on real control planes: kube-apiservers,
// OCM's work agent, and under the build tag peers Karmada and Flux. Nothing that
// answers a request here is a fake.
package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

func TestMain(m *testing.M) {
	log := zap.New(zap.WriteTo(os.Stderr), zap.UseDevMode(true))
	if os.Getenv("E2E_LOG") == "" {
		log = zap.New(zap.WriteTo(discard{}))
	}
	ctrl.SetLogger(log)
	os.Exit(m.Run())
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return logged.Write(p) }

// namespace is Sallyport's own.
const namespace = "sallyport-system"

// world is a hub with Sallyport installed, and its members.
type world struct {
	*testing.T
	fleet *controlplane.Fleet
	hub   client.WithWatch
	ctx   context.Context
}

// newWorld starts a hub with Sallyport's CRDs and the members.
func newWorld(t *testing.T, members ...string) *world {
	t.Helper()
	fleet := controlplane.ForTest(t, controlplane.Options{Members: members, ControllerManager: true})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	t.Cleanup(cancel)
	w := &world{T: t, fleet: fleet, ctx: ctx}
	w.hub = w.client(fleet.Hub.AdminConfig())
	w.must(fleet.Hub.InstallCRDs(ctx, "../../config/crd/bases"))
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}})
	return w
}

func (w *world) now() time.Time { return time.Now() }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// client reads and writes without a cache.
func (w *world) client(config *rest.Config) client.WithWatch {
	w.Helper()
	scheme, err := controllers.Scheme()
	w.must(err)
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	w.must(err)
	return c
}

func (w *world) member(name string) client.WithWatch {
	w.Helper()
	return w.client(w.fleet.Member(name).AdminConfig())
}

func (w *world) create(objects ...client.Object) {
	w.Helper()
	for _, o := range objects {
		if err := w.hub.Create(w.ctx, o); err != nil && !apierrors.IsAlreadyExists(err) {
			w.Fatalf("cannot create %T %s: %v", o, o.GetName(), err)
		}
	}
}

// controller runs Sallyport until the returned function is called, or the test
// ends, and gives up its leadership with the process, as it were.
func (w *world) controller(change ...func(*controllers.Options)) (stop func()) {
	w.Helper()
	o := controllers.Options{
		Namespace: namespace, MetricsAddr: "0", ProbeAddr: "0", Unnamed: true,
		Resync: time.Second, Grace: 2 * time.Second,
	}
	for _, c := range change {
		c(&o)
	}
	config := rest.CopyConfig(w.fleet.Hub.AdminConfig())
	mgr, err := controllers.NewManager(config, o)
	w.must(err)
	ctx, cancel := context.WithCancel(w.ctx)
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
			w.Errorf("the controller stopped with: %v", err)
		}
	}
	w.Cleanup(stop)
	return stop
}

// patience is for a machine that is busy with other tests as well.
const patience = 2 * time.Minute

// eventually waits for a condition, which says what is still missing, or "".
func (w *world) eventually(what string, condition func() string) {
	w.Helper()
	begin := time.Now()
	missing := "never asked"
	for time.Since(begin) < patience {
		if missing = condition(); missing == "" {
			return
		}
		select {
		case <-w.ctx.Done():
			w.Fatalf("%s: the test ran out of time: %s", what, missing)
		case <-time.After(50 * time.Millisecond): // a poll, not a pause: the deadline is above
		}
	}
	w.Fatalf("%s: still not after %s: %s", what, patience, missing)
}

// grant reads a grant.
func (w *world) grant(ns, name string) *v1alpha1.AccessGrant {
	w.Helper()
	g := &v1alpha1.AccessGrant{}
	if err := w.hub.Get(w.ctx, client.ObjectKey{Namespace: ns, Name: name}, g); err != nil {
		if apierrors.IsNotFound(err) {
			return nil
		}
		w.Fatal(err)
	}
	return g
}

// condition is "Status Reason" of a grant's condition; "gone" without the grant.
func (w *world) condition(ns, name, condition string) string {
	w.Helper()
	g := w.grant(ns, name)
	if g == nil {
		return "gone"
	}
	c := meta.FindStatusCondition(g.Status.Conditions, condition)
	if c == nil || c.ObservedGeneration != 0 && c.ObservedGeneration != g.Generation && !g.Spec.Suspend {
		return "unknown"
	}
	return string(c.Status) + " " + c.Reason
}

// ready waits until a grant's Ready condition is as wanted: "True Applied".
func (w *world) ready(ns, name, want string) {
	w.Helper()
	w.eventually(fmt.Sprintf("grant %s/%s is %s", ns, name, want), func() string {
		if got := w.condition(ns, name, v1alpha1.ConditionReady); got != want {
			g := w.grant(ns, name)
			if g == nil {
				return got
			}
			return fmt.Sprintf("it is %s: %+v %+v", got, g.Status.Conditions, g.Status.Failures)
		}
		return ""
	})
}

// may asks a cluster whether somebody may do something: "get pods" in a namespace,
// or cluster-wide where it is empty.
func may(ctx context.Context, c client.Client, user string, groups []string, verb, group, resource, ns, name string) (bool, error) {
	resource, subresource, _ := strings.Cut(resource, "/")
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user, Groups: groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: verb, Group: group, Resource: resource, Subresource: subresource, Namespace: ns, Name: name,
		},
	}}
	if err := c.Create(ctx, review); err != nil {
		return false, err
	}
	return review.Status.Allowed, nil
}

// who is somebody, as the hub knows them.
type who struct {
	name   string
	groups []string
}

// can is whether somebody can do something on a member.
func (w *world) can(member string, who who, verb, resource, ns string) bool {
	w.Helper()
	ok, err := may(w.ctx, w.member(member), who.name, who.groups, verb, "", resource, ns, "")
	w.must(err)
	return ok
}

// canReach is whether the hub lets somebody through to a member.
func (w *world) canReach(member string, who who, verb string) bool {
	w.Helper()
	ok, err := may(w.ctx, w.hub, who.name, who.groups, verb, "proxy.sallyport.dev", "clusters/proxy", "", member)
	w.must(err)
	return ok
}

// waitCan waits until somebody can, or cannot, do something on a member.
func (w *world) waitCan(want bool, member string, who who, verb, resource, ns string) {
	w.Helper()
	w.eventually(fmt.Sprintf("%s can %s %s on %s: %t", who.name, verb, resource, member, want), func() string {
		if w.can(member, who, verb, resource, ns) != want {
			return "not yet"
		}
		return ""
	})
}

// left lists what Sallyport made and is still there on a cluster.
func left(ctx context.Context, c client.Client) ([]string, error) {
	var out []string
	for _, kind := range []string{"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion("rbac.authorization.k8s.io/v1")
		list.SetKind(kind + "List")
		if err := c.List(ctx, list, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}); err != nil {
			return nil, err
		}
		for _, o := range list.Items {
			out = append(out, kind+" "+strings.TrimPrefix(o.GetNamespace()+"/"+o.GetName(), "/"))
		}
	}
	return out, nil
}

func (w *world) nothingLeft(clusters ...client.Client) {
	w.Helper()
	w.eventually("nothing is orphaned", func() string {
		for _, c := range clusters {
			objects, err := left(w.ctx, c)
			w.must(err)
			if len(objects) > 0 {
				return strings.Join(objects, ", ")
			}
		}
		return ""
	})
}

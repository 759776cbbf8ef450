package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
)

// TestModel (S12) does a thousand random things to grants, roles and the fleet,
// with drift on hub and member and a controller that is killed now and then, and
// looks every so often whether hub, works and members are exactly what the
// surviving grants say; in the end nothing is left.
//
// MODEL_SEED makes another run, MODEL_STEPS a longer one.
func TestModel(t *testing.T) {
	steps, seed := 1000, uint64(20261123)
	if v, err := strconv.Atoi(os.Getenv("MODEL_STEPS")); err == nil {
		steps = v
	}
	if v, err := strconv.ParseUint(os.Getenv("MODEL_SEED"), 10, 64); err == nil {
		seed = v
	}
	t.Logf("MODEL_SEED=%d", seed)
	w := newWorld(t, "m1", "m2")
	w.ocm(map[string]map[string]string{"m1": {"env": "prod"}, "m2": {"env": "dev"}})
	m := &model{world: w, rnd: rand.New(rand.NewPCG(seed, 0)), done: map[string]int{}}
	for _, ns := range []string{"team-a", "team-b"} {
		w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}})
	}
	for _, member := range []string{"m1", "m2"} {
		w.must(w.member(member).Create(w.ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "orders"}}))
	}

	m.start()
	for i := range steps {
		m.step()
		if (i+1)%100 == 0 {
			m.check(fmt.Sprintf("after %d steps", i+1))
		}
	}
	m.removeAll()
	m.check("at the end")
	w.nothingLeft(w.hub, w.member("m1"), w.member("m2"))
	t.Logf("%d steps: %v", steps, m.done)
}

type model struct {
	*world
	rnd  *rand.Rand
	stop func()
	cut  *writes
	done map[string]int
}

// start a controller that will be killed after some writes.
func (m *model) start() {
	m.cut = newWrites(5 + m.rnd.IntN(120))
	m.stop = m.controller(func(o *controllers.Options) { o.WrapClient = m.cut.wrap })
}

func (m *model) step() {
	m.Helper()
	select {
	case <-m.cut.dead:
		m.stop()
		m.start()
		m.done["killed"]++
	default:
	}
	var what string
	switch n := m.rnd.IntN(100); {
	case n < 35:
		what = "create"
		m.create(m.randomGrant())
	case n < 60:
		what = m.edit()
	case n < 80:
		what = "delete"
		m.delete(m.randomGrant())
	case n < 88:
		what = "role"
		m.editRole()
	case n < 93:
		what = "relabel"
		m.relabel(pick(m, "m1", "m2"), "env", pick(m, "prod", "dev", "test"))
	case n < 97:
		what = "drift on the hub"
		m.drift(m.hub)
	default:
		what = "drift on a member"
		m.drift(m.member(pick(m, "m1", "m2")))
	}
	m.done[what]++
}

func pick[T any](m *model, from ...T) T { return from[m.rnd.IntN(len(from))] }

func (m *model) randomGrant() *v1alpha1.AccessGrant {
	g := &v1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: pick(m, "team-a", "team-b"), Name: fmt.Sprintf("g%d", m.rnd.IntN(6))},
		Spec:       v1alpha1.AccessGrantSpec{Reason: "model"},
	}
	m.fill(g)
	return g
}

func (m *model) fill(g *v1alpha1.AccessGrant) {
	g.Spec.Subjects = []v1alpha1.Subject{pick(m,
		v1alpha1.Subject{Kind: "User", Name: "alice"}, v1alpha1.Subject{Kind: "User", Name: "bob"},
		v1alpha1.Subject{Kind: "Group", Name: "ops"}, v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "ci", Name: "bot"})}
	if m.rnd.IntN(3) == 0 {
		g.Spec.Subjects = append(g.Spec.Subjects, v1alpha1.Subject{Kind: "Group", Name: "devs"})
	}
	g.Spec.Clusters = pick(m,
		v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"m1"}},
		v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"m1", "m2"}},
		v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"nowhere"}},
		v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "prod"}}},
		v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"env": "dev"}}})
	g.Spec.Access = []v1alpha1.AccessEntry{m.randomAccess()}
	if second := m.randomAccess(); m.rnd.IntN(3) == 0 && !reflect.DeepEqual(second, g.Spec.Access[0]) {
		g.Spec.Access = append(g.Spec.Access, second)
	}
}

func (m *model) randomAccess() v1alpha1.AccessEntry {
	e := pick(m,
		v1alpha1.AccessEntry{RoleRef: &v1alpha1.RoleReference{Kind: "AccessRole", Name: "r1"}},
		v1alpha1.AccessEntry{RoleRef: &v1alpha1.RoleReference{Kind: "AccessRole", Name: "r2"}},
		v1alpha1.AccessEntry{RoleRef: &v1alpha1.RoleReference{Kind: "ClusterRole", Name: "view"}},
		v1alpha1.AccessEntry{Rules: []v1alpha1.PolicyRule{{Verbs: []string{pick(m, "get", "create")}, APIGroups: []string{""}, Resources: []string{"pods/log"}}}})
	if m.rnd.IntN(2) == 0 {
		e.Namespaces = []v1alpha1.NamespaceName{"orders"}
	}
	return e
}

func (m *model) edit() string {
	g := m.randomGrant()
	live := m.grant(g.Namespace, g.Name)
	if live == nil || !live.DeletionTimestamp.IsZero() {
		return "edit of nothing"
	}
	m.fill(live)
	if err := m.hub.Update(m.ctx, live); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		m.Fatal(err)
	}
	return "edit"
}

// editRole makes, changes or deletes a role that grants use.
func (m *model) editRole() {
	role := podReader()
	role.Name = pick(m, "r1", "r2")
	role.Spec.Rules[0].Verbs = pick(m, []string{"get"}, []string{"get", "list"}, []string{"create", "delete"})
	err := m.hub.Get(m.ctx, client.ObjectKeyFromObject(role), &v1alpha1.AccessRole{})
	switch {
	case apierrors.IsNotFound(err):
		m.create(role)
	case m.rnd.IntN(3) == 0:
		m.delete(role)
	default:
		live := &v1alpha1.AccessRole{}
		m.must(m.hub.Get(m.ctx, client.ObjectKeyFromObject(role), live))
		live.Spec = role.Spec
		m.must(m.hub.Update(m.ctx, live))
	}
}

// drift changes or deletes, by hand, something that Sallyport made.
func (m *model) drift(c client.Client) {
	var list rbacv1.ClusterRoleList
	m.must(c.List(m.ctx, &list, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
	if len(list.Items) == 0 {
		return
	}
	role := &list.Items[m.rnd.IntN(len(list.Items))]
	var err error
	if m.rnd.IntN(2) == 0 {
		err = c.Delete(m.ctx, role)
	} else {
		role.Rules = append(role.Rules, rbacv1.PolicyRule{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}})
		err = c.Update(m.ctx, role)
	}
	if err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		m.Fatal(err)
	}
}

// check runs a controller that is not killed until everything is exact.
func (m *model) check(when string) {
	m.Helper()
	m.stop()
	stop := m.controller()
	m.eventually(when+", hub, works and members are exactly what the grants say", func() string { return m.inexact("m1", "m2") })
	stop()
	m.start()
}

func (m *model) removeAll() {
	var grants v1alpha1.AccessGrantList
	m.must(m.hub.List(m.ctx, &grants))
	for i := range grants.Items {
		m.delete(&grants.Items[i])
	}
}

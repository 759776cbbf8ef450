package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/controllers"
)

// TestModel (S12) does a thousand random things to grants, roles, guardrails and the
// fleet, with drift on hub and member and a controller that is killed now and then, and
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
	case n < 91:
		what = m.guard()
	case n < 94:
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

// guard makes, changes or deletes a guardrail, which may be broken, or an exception.
func (m *model) guard() string {
	toggle := func(o client.Object) {
		switch err := m.hub.Delete(m.ctx, o); {
		case apierrors.IsNotFound(err):
			m.create(o)
		default:
			m.must(err)
		}
	}
	rail := func(name, expression string) *v1alpha1.Guardrail {
		return &v1alpha1.Guardrail{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1alpha1.GuardrailSpec{
				Exceptions: &v1alpha1.ExceptionTerms{MaxDuration: metav1.Duration{Duration: 24 * time.Hour}},
				CEL:        &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: expression}}},
			},
		}
	}
	switch m.rnd.IntN(5) {
	case 0:
		toggle(rail("not-bob", `input.grant.spec.subjects.all(s, s.name != 'bob')`))
		return "guardrail"
	case 1:
		toggle(rail("no-create-in-prod", `!input.clusters.exists(c, c.labels['env'] == 'prod') || input.access.all(a, a.rules.all(r, !('create' in r.verbs)))`))
		return "guardrail"
	case 2:
		toggle(&v1alpha1.Guardrail{
			ObjectMeta: metav1.ObjectMeta{Name: "ceiling"},
			Spec: v1alpha1.GuardrailSpec{
				Match:   &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Names: []v1alpha1.Pattern{"team-b"}}},
				Ceiling: &v1alpha1.Ceiling{Namespaces: []v1alpha1.Pattern{"orders"}, Rules: podReader().Spec.Rules},
			},
		})
		return "ceiling"
	case 3:
		toggle(rail(broken, "input.gramt"))
		return "broken guardrail"
	default:
		toggle(&v1alpha1.GuardrailException{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "e"},
			Spec: v1alpha1.GuardrailExceptionSpec{
				Guardrail: "not-bob", Grant: "g1", Reason: "model", Ticket: "M-1",
				NotBefore: metav1.NewTime(m.now().Add(-time.Hour)), NotAfter: metav1.NewTime(m.now().Add(20 * time.Hour)),
			},
		})
		return "exception"
	}
}

// broken is the guardrail that cannot be evaluated. What stands while it is there
// depends on what stood before, so that it is gone when exactness is looked at.
const broken = "broken"

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
	m.must(client.IgnoreNotFound(m.hub.Delete(m.ctx, &v1alpha1.Guardrail{ObjectMeta: metav1.ObjectMeta{Name: broken}})))
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

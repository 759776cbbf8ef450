package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
)

// noSecrets refuses grants that let anybody read Secrets.
func noSecrets() *v1alpha1.Guardrail {
	return &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: "no-secrets"},
		Spec: v1alpha1.GuardrailSpec{
			Exceptions: &v1alpha1.ExceptionTerms{MaxDuration: metav1.Duration{Duration: time.Hour}},
			CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{
				Expression: `input.access.all(a, a.rules.all(r, !rbac.allows(r, 'get', '', 'secrets')))`,
				Message:    "Secrets are not read by people", Field: "spec.access",
			}}},
		},
	}
}

// noSecretsInRego is the same in OPA's language.
func noSecretsInRego() *v1alpha1.Guardrail {
	g := noSecrets()
	g.Spec.CEL = nil
	g.Spec.Rego = &v1alpha1.RegoPolicy{Module: `package guardrails.no_secrets

import data.sallyport.rbac

deny contains {"message": "Secrets are not read by people", "field": "spec.access"} if {
	some access in input.access
	some rule in access.rules
	rbac.allows(rule, "get", "", "secrets")
}
`}
	return g
}

// reading is a grant that lets alice read a resource on m1.
func reading(name, resource string) *v1alpha1.AccessGrant {
	return &v1alpha1.AccessGrant{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: name},
		Spec: v1alpha1.AccessGrantSpec{
			Reason:   "PAY-1",
			Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "alice"}},
			Clusters: v1alpha1.ClusterSelection{Names: []v1alpha1.ClusterName{"m1"}},
			Access:   []v1alpha1.AccessEntry{{Rules: []v1alpha1.PolicyRule{{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{resource}}}}},
		},
	}
}

// guardedWorld is a hub with one member that is delivered to directly.
func guardedWorld(t *testing.T) *world {
	w := newWorld(t, "m1")
	w.byKubeconfig("m1", nil)
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "payments"}})
	return w
}

// inForce waits until a guardrail is asked.
func (w *world) inForce(name string) {
	w.Helper()
	w.eventually("guardrail "+name+" is in force", func() string {
		var g v1alpha1.Guardrail
		w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: name}, &g))
		c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionReady)
		if c == nil || c.ObservedGeneration != g.Generation || c.Status != metav1.ConditionTrue {
			return fmt.Sprintf("%+v", g.Status)
		}
		return ""
	})
}

func TestGuardrailRefusesAndRevokes(t *testing.T) {
	for language, rail := range map[string]*v1alpha1.Guardrail{"CEL": noSecrets(), "Rego": noSecretsInRego()} {
		t.Run(language, func(t *testing.T) {
			w := guardedWorld(t)
			w.controller()
			w.create(reading("secrets", "secrets"), reading("pods", "pods"))
			w.ready("payments", "secrets", "True Applied")
			w.waitCan(true, "m1", alice, "get", "secrets", "default")

			// What stands is revoked.
			w.create(rail)
			w.ready("payments", "secrets", "False Refused")
			w.waitCan(false, "m1", alice, "get", "secrets", "default")
			if got := w.condition("payments", "secrets", v1alpha1.ConditionCompliant); got != "False Refused" {
				t.Errorf("Compliant is %s", got)
			}
			g := w.grant("payments", "secrets")
			want := []v1alpha1.GrantViolation{{Guardrail: "no-secrets", Message: "Secrets are not read by people", Field: "spec.access", Enforcement: v1alpha1.EnforcementDeny}}
			if !slices.Equal(g.Status.Violations, want) {
				t.Errorf("violations are %+v, want %+v", g.Status.Violations, want)
			}
			if !w.can("m1", alice, "get", "pods", "default") {
				t.Error("a grant that no guardrail objects to is revoked as well")
			}

			// An exception lets it through until it ends, and not a moment longer.
			begin := w.now().Add(-time.Minute)
			exception := &v1alpha1.GuardrailException{
				ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "once"},
				Spec: v1alpha1.GuardrailExceptionSpec{
					Guardrail: "no-secrets", Grant: "secrets", Reason: "an incident", Ticket: "INC-1",
					NotBefore: metav1.NewTime(begin), NotAfter: metav1.NewTime(w.now().Add(8 * time.Second)),
				},
			}
			w.create(exception)
			w.ready("payments", "secrets", "True Applied")
			w.waitCan(true, "m1", alice, "get", "secrets", "default")
			w.ready("payments", "secrets", "False Refused")
			if end := exception.Spec.NotAfter; w.now().Before(end.Time) {
				t.Errorf("the exception ended before %s", end)
			}
			w.waitCan(false, "m1", alice, "get", "secrets", "default")

			// Without the guardrail it is what it was.
			w.must(w.hub.Delete(w.ctx, rail))
			w.ready("payments", "secrets", "True Applied")
		})
	}
}

// TestBrokenGuardrail: S16. A guardrail that does not compile, which the webhook
// would have refused, keeps what it matches from widening, and nothing else.
func TestBrokenGuardrail(t *testing.T) {
	w := guardedWorld(t)
	stop := w.controller()
	w.create(reading("stands", "pods"))
	w.ready("payments", "stands", "True Applied")

	broken := noSecrets()
	broken.Name = "broken"
	broken.Spec.CEL.Validations[0].Expression = "input.gramt"
	broken.Spec.Match = &v1alpha1.GuardrailMatch{Namespaces: &v1alpha1.NamespaceMatch{Names: []v1alpha1.Pattern{"payments"}}}
	w.create(broken)
	w.eventually("the guardrail is stalled", func() string {
		var g v1alpha1.Guardrail
		w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: "broken"}, &g))
		c := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionStalled)
		if c == nil || !strings.Contains(c.Message, "1:6") || !strings.Contains(c.Message, "spec.cel.validations[0].expression") {
			return fmt.Sprintf("it is not told where: %+v", g.Status.Conditions)
		}
		return ""
	})
	w.ready("payments", "stands", "False EvaluationFailed")

	// Elsewhere nothing is different.
	w.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "other"}})
	elsewhere := reading("elsewhere", "services")
	elsewhere.Namespace = "other"
	w.create(elsewhere)
	w.ready("other", "elsewhere", "True Applied")

	// One resource and one subject more wait; what stands stays, also over a restart.
	w.create(reading("new", "secrets"))
	w.ready("payments", "new", "False EvaluationFailed")
	w.change("payments", "stands", func(wider *v1alpha1.AccessGrant) {
		wider.Spec.Access[0].Rules = append(wider.Spec.Access[0].Rules, reading("", "configmaps").Spec.Access[0].Rules...)
		wider.Spec.Access = append(wider.Spec.Access, reading("", "pods").Spec.Access...)
		wider.Spec.Subjects = append(wider.Spec.Subjects, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: "bob"})
	})
	stop()
	w.controller()
	w.eventually("the change is seen", func() string {
		if g := w.grant("payments", "stands"); g.Status.ObservedGeneration != g.Generation {
			return "not yet"
		}
		return ""
	})
	for what, can := range map[string]bool{
		"what stands":    w.can("m1", alice, "get", "pods", "default"),
		"no new rule":    !w.can("m1", alice, "get", "configmaps", "default"),
		"no new subject": !w.can("m1", who{name: "bob"}, "get", "pods", "default"),
		"no new grant":   !w.can("m1", alice, "get", "secrets", "default"),
	} {
		if !can {
			t.Errorf("%s: not so", what)
		}
	}

	// What is taken away goes at once, and does not come back while nothing is judged.
	w.change("payments", "stands", func(narrower *v1alpha1.AccessGrant) {
		narrower.Spec.Subjects = []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "bob"}}
	})
	w.waitCan(false, "m1", alice, "get", "pods", "default")
	w.eventually("the narrowing is recorded", func() string {
		if g := w.grant("payments", "stands"); g.Status.ObservedGeneration != g.Generation {
			return "not yet"
		}
		return ""
	})
	w.change("payments", "stands", func(again *v1alpha1.AccessGrant) {
		again.Spec.Subjects = []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: "alice"}}
	})
	w.eventually("the change back is seen", func() string {
		if g := w.grant("payments", "stands"); g.Status.ObservedGeneration != g.Generation {
			return "not yet"
		}
		return ""
	})
	if w.can("m1", alice, "get", "pods", "default") {
		t.Error("what was taken away came back unjudged")
	}

	// Mended, everything is judged, and given.
	w.must(w.hub.Delete(w.ctx, broken))
	w.ready("payments", "stands", "True Applied")
	w.ready("payments", "new", "True Applied")
}

// TestGuardrailAndGrantInOneCommit: S26. A commit with a guardrail and a grant that it
// refuses gives no access, not for a moment: the member is asked all the while, and
// every binding that was ever made there is looked at.
func TestGuardrailAndGrantInOneCommit(t *testing.T) {
	w := guardedWorld(t)
	repo := newRepository(t, "plain")
	w.must(os.Remove(filepath.Join(repo.dir, "kustomization.yaml"))) // every file counts
	w.must(os.RemoveAll(filepath.Join(repo.dir, "guardrails")))      // but for the example's own guardrails
	first := repo.commit(ada, "the example")
	w.controller(repo.synced)
	w.sync(first, "Applied")

	// Every change of bindings on hub and member from here on.
	watch := func(where string, c client.WithWatch) (check func()) {
		bindings := listOf("ClusterRoleBinding")
		events, err := c.Watch(w.ctx, bindings)
		w.must(err)
		var told []string
		done := make(chan struct{})
		go func() {
			defer close(done)
			for e := range events.ResultChan() {
				if text := fmt.Sprint(e.Object); strings.Contains(text, "mallory") {
					told = append(told, text)
				}
			}
		}()
		return func() {
			events.Stop()
			<-done
			for _, text := range told {
				t.Errorf("S26: %s gave mallory something: %s", where, text)
			}
		}
	}
	hub, member := watch("hub", w.hub), watch("m1", w.member("m1"))

	for round := range 5 {
		grant := reading(fmt.Sprintf("sneaky-%d", round), "secrets")
		grant.Spec.Subjects[0].Name = "mallory"
		rail := noSecrets()
		rail.Name = fmt.Sprintf("no-secrets-%d", round)
		// In one file, the grant first: the order of a commit must not matter.
		repo.write(fmt.Sprintf("sneaky-%d.yaml", round), manifest(t, grant)+"---\n"+manifest(t, rail))
		repo.commit(grace, "a guardrail and what it forbids")
		w.ready("payments", grant.Name, "False Refused")
		// The next round's guardrail has to come with its grant.
		w.must(os.Remove(filepath.Join(repo.dir, fmt.Sprintf("sneaky-%d.yaml", round))))
		repo.commit(grace, "and away with both")
		w.eventually("both are pruned", func() string {
			var rails v1alpha1.GuardrailList
			w.must(w.hub.List(w.ctx, &rails))
			if len(rails.Items) > 0 || w.grant("payments", grant.Name) != nil {
				return "not yet"
			}
			return ""
		})
	}
	hub()
	member()
}

// manifest of an object as it is committed.
func manifest(t *testing.T, o client.Object) string {
	t.Helper()
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		t.Fatal(err)
	}
	u := unstructured.Unstructured{Object: fields}
	u.SetAPIVersion(v1alpha1.GroupVersion.String())
	u.SetKind(reflect.TypeOf(o).Elem().Name())
	delete(u.Object, "status")
	unstructured.RemoveNestedField(u.Object, "metadata", "creationTimestamp")
	raw, err := yaml.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestExceptionAndGrantInOneCommit: a grant that is refused waits in Git, and nothing
// of its commit is applied; with the exception that comes in another commit both are.
func TestExceptionAndGrantInOneCommit(t *testing.T) {
	w := guardedWorld(t)
	repo := newRepository(t, "plain")
	w.must(os.Remove(filepath.Join(repo.dir, "kustomization.yaml"))) // every file counts
	w.must(os.RemoveAll(filepath.Join(repo.dir, "guardrails")))      // but for the example's own guardrails
	repo.write("no-secrets.yaml", manifest(t, noSecrets()))
	first := repo.commit(ada, "the example, with a guardrail")
	w.controller(repo.synced, w.webhook())
	w.sync(first, "Applied")

	repo.write("secrets.yaml", manifest(t, reading("secrets", "secrets")))
	repo.write("pods.yaml", manifest(t, reading("pods", "pods")))
	refused := w.sync(repo.commit(grace, "secrets, without asking"), "Refused")
	if want := `guardrail "no-secrets": Secrets are not read by people (spec.access)`; !strings.Contains(refused["message"], want) {
		t.Errorf("the sync does not say %s\nbut %s", want, refused["message"])
	}
	if w.grant("payments", "pods") != nil {
		t.Error("of a commit that is refused something is applied")
	}

	repo.write("exception.yaml", manifest(t, &v1alpha1.GuardrailException{
		ObjectMeta: metav1.ObjectMeta{Namespace: "payments", Name: "once"},
		Spec: v1alpha1.GuardrailExceptionSpec{
			Guardrail: "no-secrets", Grant: "secrets", Reason: "an incident", Ticket: "INC-1",
			NotBefore: metav1.NewTime(w.now().Add(-time.Minute)), NotAfter: metav1.NewTime(w.now().Add(50 * time.Minute)),
		},
	}))
	w.sync(repo.commit(ada, "INC-1: for an hour"), "Applied")
	w.ready("payments", "secrets", "True Applied")
	if got := w.condition("payments", "secrets", v1alpha1.ConditionCompliant); got != "True Excused" {
		t.Errorf("Compliant is %s", got)
	}

	// A policy that changes lets nothing through that it refuses.
	repo.write("again.yaml", manifest(t, reading("again", "secrets")))
	repo.replace("no-secrets.yaml", "Secrets are not read by people", "nobody reads Secrets")
	again := w.sync(repo.commit(grace, "other words, and one more"), "Refused")
	if want := `guardrail "no-secrets": nobody reads Secrets (spec.access)`; !strings.Contains(again["message"], want) {
		t.Errorf("the sync does not say %s\nbut %s", want, again["message"])
	}
	if w.grant("payments", "again") != nil {
		t.Error("a grant is applied that the guardrail of its own commit refuses")
	}
}

// TestRefusedWhileSuspended: a guardrail ends what a suspended grant holds, and it does
// not come back by being held.
func TestRefusedWhileSuspended(t *testing.T) {
	w := guardedWorld(t)
	stop := w.controller()
	w.create(reading("secrets", "secrets"))
	w.ready("payments", "secrets", "True Applied")
	suspend := func(to bool) {
		g := w.grant("payments", "secrets")
		patch := client.MergeFrom(g.DeepCopy())
		g.Spec.Suspend = to
		w.must(w.hub.Patch(w.ctx, g, patch))
	}
	suspend(true)
	w.ready("payments", "secrets", "True Suspended")
	rail := noSecrets()
	w.create(rail)
	w.ready("payments", "secrets", "False Refused")
	w.waitCan(false, "m1", alice, "get", "secrets", "default")

	stop()
	w.controller()
	w.ready("payments", "secrets", "False Refused")
	w.must(w.hub.Delete(w.ctx, rail))
	w.ready("payments", "secrets", "True Suspended")
	if w.can("m1", alice, "get", "secrets", "default") {
		t.Error("what was refused came back by being held")
	}
	suspend(false)
	w.ready("payments", "secrets", "True Applied")
	w.waitCan(true, "m1", alice, "get", "secrets", "default")
}

// TestBundleUnderLoad: S16. While a grant that a bundle refuses is asked for all the
// time, the bundle is corrupted, its archive is taken away, and the controller is
// stopped and started: the grant is never taken.
func TestBundleUnderLoad(t *testing.T) {
	w := guardedWorld(t)
	options := w.webhook()
	publish := func(archive []byte) {
		w.Helper()
		published := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "baseline"},
			BinaryData: map[string][]byte{"bundle.tar.gz": archive},
		}
		if err := w.hub.Update(w.ctx, published); apierrors.IsNotFound(err) {
			w.must(w.hub.Create(w.ctx, published))
		} else {
			w.must(err)
		}
	}
	build := func(number string) []byte {
		w.Helper()
		revision, err := bundle.ParseRevision(number)
		w.must(err)
		archive, err := bundle.Build(bundle.Manifest{Revision: revision, Guardrails: map[string]v1alpha1.GuardrailSpec{"no-secrets": noSecretsInRego().Spec}})
		w.must(err)
		return archive
	}
	state := func(revision, ready string) {
		w.Helper()
		w.eventually("the bundle is "+ready+" with revision "+revision, func() string {
			var b v1alpha1.GuardrailBundle
			w.must(w.hub.Get(w.ctx, client.ObjectKey{Name: "baseline"}, &b))
			c := meta.FindStatusCondition(b.Status.Conditions, v1alpha1.ConditionReady)
			if c == nil || string(c.Status)+" "+c.Reason != ready || b.Status.Active == nil || b.Status.Active.Revision != revision {
				return fmt.Sprintf("%+v", b.Status)
			}
			return ""
		})
	}

	publish(build("1"))
	stop := w.controller(options)
	w.eventually("the webhook takes the bundle", func() string {
		err := w.hub.Create(w.ctx, &v1alpha1.GuardrailBundle{
			ObjectMeta: metav1.ObjectMeta{Name: "baseline"},
			Spec: v1alpha1.GuardrailBundleSpec{
				Source:   v1alpha1.BundleSource{ConfigMap: &v1alpha1.ConfigMapSource{Namespace: namespace, Name: "baseline"}},
				Interval: metav1.Duration{Duration: time.Second}, Unsigned: "Allowed",
			},
		})
		if err != nil && !apierrors.IsAlreadyExists(err) {
			return err.Error()
		}
		return ""
	})
	state("1", "True InForce")
	w.eventually("the webhook refuses", func() string {
		if w.hub.Create(w.ctx, reading("secrets", "secrets"), client.DryRunAll) == nil {
			return "it takes Secrets"
		}
		return ""
	})

	ctx, cancel := context.WithCancel(w.ctx)
	var asking sync.WaitGroup
	var asked, judged atomic.Int64
	for range 2 {
		asking.Go(func() {
			for ctx.Err() == nil {
				err := w.hub.Create(ctx, reading("secrets", "secrets"), client.DryRunAll)
				switch {
				case err == nil:
					t.Error("S16: a grant is taken that the bundle refuses")
					return
				case strings.Contains(err.Error(), "Secrets are not read by people"):
					judged.Add(1)
				}
				asked.Add(1)
			}
		})
	}
	corrupt := build("2")
	corrupt[len(corrupt)/2] ^= 0xff
	publish(corrupt)
	state("1", "False Invalid")
	stop()
	stop = w.controller(options) // with the corrupt one still there
	state("1", "False Invalid")
	var archives corev1.ConfigMapList
	w.must(w.hub.List(w.ctx, &archives, client.InNamespace(namespace)))
	for i := range archives.Items {
		if strings.HasPrefix(archives.Items[i].Name, "sallyport-bundle-") {
			w.must(w.hub.Delete(w.ctx, &archives.Items[i]))
		}
	}
	stop()
	w.controller(options)
	w.eventually("requests are answered after the restart", func() string {
		if err := w.hub.Create(w.ctx, reading("secrets", "secrets"), client.DryRunAll); err == nil || !strings.Contains(err.Error(), "guardrail") {
			return fmt.Sprint(err)
		}
		return ""
	})
	publish(build("3"))
	state("3", "True InForce")
	before := judged.Load()
	w.eventually("the grant is judged again", func() string {
		if judged.Load() == before {
			return "not yet"
		}
		return ""
	})
	cancel()
	asking.Wait()
	if asked.Load() < 20 {
		t.Errorf("it was asked %d times: the test shows nothing", asked.Load())
	}
	t.Logf("asked %d times, judged %d times", asked.Load(), judged.Load())
}

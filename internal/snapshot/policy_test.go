package snapshot_test

import (
	"context"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
	"github.com/sallyport-dev/sallyport/test/controlplane"
)

const namespace = "sallyport-system"

// fullReads counts what brought whole objects.
type fullReads struct{ n int }

func (f *fullReads) wrap(c client.WithWatch) client.WithWatch {
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, o ...client.GetOption) error {
			if _, partial := object.(*metav1.PartialObjectMetadata); !partial {
				f.n++
			}
			return c.Get(ctx, key, object, o...)
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, o ...client.ListOption) error {
			if _, partial := list.(*metav1.PartialObjectMetadataList); !partial {
				f.n++
			}
			return c.List(ctx, list, o...)
		},
	})
}

func TestPolicy(t *testing.T) {
	hub := controlplane.ForTest(t, controlplane.Options{}).Hub
	if err := hub.InstallCRDs(t.Context(), "../../config/crd/bases"); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, metav1.AddMetaToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c, err := client.NewWithWatch(hub.AdminConfig(), client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	var reads fullReads
	policy := snapshot.New(c, reads.wrap(c), namespace, guardrail.Options{})
	live := func() *guardrail.Set {
		t.Helper()
		set, err := policy.Live(t.Context())
		must(err)
		return set
	}
	// same fails where reading the policy again makes another Set, or reads objects.
	same := func(reason string, want *guardrail.Set) {
		t.Helper()
		for range 2 {
			if current, err := policy.Current(t.Context()); err != nil || current != want {
				t.Errorf("%s Current is another Set than Live: %v", reason, err)
			}
			before := reads.n
			if live() != want {
				t.Errorf("%s Live is another Set.", reason)
			}
			if reads.n != before {
				t.Errorf("%s Live reads whole objects.", reason)
			}
		}
	}
	names := func(set *guardrail.Set) (out []string) {
		for _, g := range set.Guardrails() {
			name := g.Name
			if g.Check == nil {
				name += " stalled"
			}
			out = append(out, name)
		}
		return out
	}
	expect := func(reason string, want ...string) *guardrail.Set {
		t.Helper()
		set := live()
		if got := names(set); !slices.Equal(got, want) {
			t.Fatalf("%s Got %q, want %q.", reason, got, want)
		}
		return set
	}

	empty := expect("Where there is nothing, nothing is in force.")
	if got := empty.Judge(guardrail.Compile, &guardrail.Input{}).Verdict; got != guardrail.Allowed {
		t.Errorf("nothing in force says %v", got)
	}

	ceiling := &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: "a", Finalizers: []string{"example.org/hold"}},
		Spec:       v1alpha1.GuardrailSpec{Ceiling: &v1alpha1.Ceiling{}},
	}
	must(c.Create(t.Context(), ceiling))
	first := expect("Live has what was there when it was called.", "a")
	same("Nothing has changed.", first)

	// Of a cache that is behind, what Current makes is not what Live made.
	behind := snapshot.New(interceptor.NewClient(c, interceptor.Funcs{
		List: func(context.Context, client.WithWatch, client.ObjectList, ...client.ListOption) error { return nil },
	}), reads.wrap(c), namespace, guardrail.Options{})
	ahead, err := behind.Live(t.Context())
	must(err)
	if current, err := behind.Current(t.Context()); err != nil || current == ahead || len(current.Guardrails()) > 0 {
		t.Errorf("by a cache that has nothing yet, something is in force: %v", err)
	}
	before := reads.n
	if again, err := behind.Live(t.Context()); err != nil || again != ahead || reads.n != before {
		t.Errorf("after Current, Live reads what has not changed: %v", err)
	}

	// A status is none of its business.
	ceiling.Status.ObservedGeneration = 1
	must(c.Status().Update(t.Context(), ceiling))
	if live() != first {
		t.Error("a status makes another Set")
	}

	broken := &v1alpha1.Guardrail{
		ObjectMeta: metav1.ObjectMeta{Name: "b"},
		Spec:       v1alpha1.GuardrailSpec{CEL: &v1alpha1.CELPolicy{Validations: []v1alpha1.CELValidation{{Expression: "nonsense("}}}},
	}
	must(c.Create(t.Context(), broken))
	second := expect("One that does not compile is stalled, and takes down no other.", "a", "b stalled")
	if second.Guardrails()[0] != first.Guardrails()[0] {
		t.Error("what has not changed is compiled again")
	}
	if more, err := behind.Live(t.Context()); err != nil || more.Guardrails()[0] != ahead.Guardrails()[0] {
		t.Errorf("what a cache has not seen yet is compiled again: %v", err)
	}
	must(c.Delete(t.Context(), broken))

	// S27: what is being deleted is in force until it is gone.
	must(c.Delete(t.Context(), ceiling))
	expect("S27: with a deletionTimestamp it is still asked.", "a")
	patch := client.MergeFrom(ceiling.DeepCopy())
	ceiling.Finalizers = nil
	must(c.Patch(t.Context(), ceiling, patch))
	expect("Gone, it is not.")

	exception := &v1alpha1.GuardrailException{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "e", Finalizers: []string{"example.org/hold"}},
		Spec: v1alpha1.GuardrailExceptionSpec{
			Guardrail: "a", Grant: "g", Reason: "r", Ticket: "t",
			NotBefore: metav1.NewTime(time.Unix(0, 0)), NotAfter: metav1.NewTime(time.Unix(3600, 0)),
		},
	}
	none := live()
	must(c.Create(t.Context(), exception))
	if live().Digest() == none.Digest() {
		t.Error("an exception does not show in the digest")
	}
	must(c.Delete(t.Context(), exception))
	if live().Digest() != none.Digest() {
		t.Error("S27: an exception that is being deleted still excuses")
	}

	// A bundle of which there is no archive stalls what it matches, until there is one.
	b := &v1alpha1.GuardrailBundle{
		ObjectMeta: metav1.ObjectMeta{Name: "corp"},
		Spec: v1alpha1.GuardrailBundleSpec{
			Source: v1alpha1.BundleSource{Directory: &v1alpha1.DirectorySource{Path: "/nowhere"}}, Unsigned: "Allowed", Interval: metav1.Duration{Duration: time.Minute},
		},
	}
	must(c.Create(t.Context(), b))
	waiting := expect("A bundle that was never accepted cannot be judged by.", "corp stalled")
	same("A bundle waits to be accepted.", waiting)
	revision, err := bundle.ParseRevision("1")
	must(err)
	archive, err := bundle.Build(bundle.Manifest{Revision: revision, Guardrails: map[string]v1alpha1.GuardrailSpec{
		"ceiling": {Ceiling: &v1alpha1.Ceiling{}},
	}})
	must(err)
	b.Status.Active = &v1alpha1.ActiveBundle{Revision: "1", Digest: bundle.Digest(archive), Since: metav1.Now()}
	must(c.Status().Update(t.Context(), b))
	same("A bundle waits for its archive.", expect("Nor by one whose archive is not there.", "corp stalled"))
	kept := &corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: bundle.ArchiveName("corp", b.Status.Active.Digest)},
		BinaryData: map[string][]byte{bundle.ArchiveKey: []byte("something else")},
	}
	must(c.Create(t.Context(), kept))
	same("A bundle waits for its archive.", expect("S25: nor by another archive than the one that was accepted.", "corp stalled"))
	kept.BinaryData[bundle.ArchiveKey] = archive
	must(c.Update(t.Context(), kept))
	same("A bundle is in force.", expect("With its archive it is in force.", "corp/ceiling"))
}

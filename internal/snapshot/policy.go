package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/bundle"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/policy"
)

// Policy reads the guardrails in force. It is safe for use by any number of
// goroutines.
type Policy struct {
	cached, live client.Reader
	namespace    string
	options      guardrail.Options

	mu sync.Mutex
	// compiled guardrails, by what they were compiled of.
	compiled map[source][]*guardrail.Guardrail
	last     *state
}

// source is what guardrails were compiled of: a version of a Guardrail, or a bundle
// with the archive that is in force.
type source struct {
	uid        types.UID
	generation int64
	digest     string
}

// state is a Set and what it was made of.
type state struct {
	set        *guardrail.Set
	guardrails []*guardrail.Guardrail
	exceptions []guardrail.Exception
	// versions of all objects, by UID. Nil if it was not read live.
	versions map[types.UID]string
	// waiting for an archive that is not there.
	waiting bool
}

// New returns a Policy that reads by two readers, of which the second reads past
// caches. The archives of bundles are in Sallyport's own namespace.
func New(cached, live client.Reader, namespace string, o guardrail.Options) *Policy {
	return &Policy{cached: cached, live: live, namespace: namespace, options: o, compiled: map[source][]*guardrail.Guardrail{}}
}

// Current is the Set by the caches, which may be behind.
func (p *Policy) Current(ctx context.Context) (*guardrail.Set, error) {
	o, err := p.list(ctx, p.cached)
	if err != nil {
		return nil, err
	}
	return p.set(ctx, o, nil)
}

// Live is the Set by the API server: it has every guardrail that was there when Live
// was called.
func (p *Policy) Live(ctx context.Context) (*guardrail.Set, error) {
	versions, err := p.versions(ctx)
	if err != nil {
		return nil, err
	}
	if set := p.unchanged(versions); set != nil {
		return set, nil
	}
	o, err := p.list(ctx, p.live)
	if err != nil {
		return nil, err
	}
	return p.set(ctx, o, o.versions())
}

// objects that make the policy.
type objects struct {
	guardrails v1alpha1.GuardrailList
	bundles    v1alpha1.GuardrailBundleList
	exceptions v1alpha1.GuardrailExceptionList
}

func (o *objects) lists() []client.ObjectList {
	return []client.ObjectList{&o.guardrails, &o.bundles, &o.exceptions}
}

func (p *Policy) list(ctx context.Context, from client.Reader) (*objects, error) {
	var o objects
	for _, list := range o.lists() {
		if err := from.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("cannot list what the policy is made of: %w", err)
		}
	}
	return &o, nil
}

func (o *objects) versions() map[types.UID]string {
	out := map[types.UID]string{}
	for _, list := range o.lists() {
		collect(out, list)
	}
	return out
}

func collect(to map[types.UID]string, list client.ObjectList) {
	_ = meta.EachListItem(list, func(o runtime.Object) error { // the function never fails
		object := o.(client.Object)
		to[object.GetUID()] = object.GetResourceVersion()
		return nil
	})
}

// versions of the objects, live, without what is in them.
func (p *Policy) versions(ctx context.Context) (map[types.UID]string, error) {
	out := map[types.UID]string{}
	for _, kind := range []string{v1alpha1.GuardrailKind, v1alpha1.GuardrailBundleKind, v1alpha1.GuardrailExceptionKind} {
		list := &metav1.PartialObjectMetadataList{}
		list.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind + "List"))
		if err := p.live.List(ctx, list); err != nil {
			return nil, fmt.Errorf("cannot list what the policy is made of: %w", err)
		}
		collect(out, list)
	}
	return out, nil
}

// unchanged is the last Set, if these are the versions that it was made of.
func (p *Policy) unchanged(versions map[types.UID]string) *guardrail.Set {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == nil || p.last.versions == nil || len(p.last.versions) != len(versions) || p.last.waiting {
		return nil
	}
	for uid, v := range versions {
		if p.last.versions[uid] != v {
			return nil
		}
	}
	return p.last.set
}

// set of the objects: the last one where it means the same.
func (p *Policy) set(ctx context.Context, o *objects, versions map[types.UID]string) (*guardrail.Set, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := &state{versions: versions}
	used := map[source][]*guardrail.Guardrail{}
	// Also one that is being deleted: it is in force until it is gone (S27).
	for i := range o.guardrails.Items {
		now.guardrails = append(now.guardrails, p.ofGuardrail(&o.guardrails.Items[i], used)...)
	}
	for i := range o.bundles.Items {
		g, err := p.ofBundle(ctx, &o.bundles.Items[i], used)
		if err != nil {
			return nil, err
		}
		now.guardrails = append(now.guardrails, g...)
		now.waiting = now.waiting || slices.ContainsFunc(g, stalled)
	}
	for i := range o.exceptions.Items {
		// One that is being deleted excuses nothing any more.
		if e := &o.exceptions.Items[i]; e.DeletionTimestamp.IsZero() {
			now.exceptions = append(now.exceptions, ExceptionOf(e))
		}
	}
	slices.SortFunc(now.guardrails, func(a, b *guardrail.Guardrail) int { return strings.Compare(a.Name, b.Name) })
	slices.SortFunc(now.exceptions, func(a, b guardrail.Exception) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	p.compiled = used
	if p.last != nil && slices.Equal(p.last.guardrails, now.guardrails) && slices.Equal(p.last.exceptions, now.exceptions) {
		now.set = p.last.set
	} else {
		now.set = guardrail.NewSet(now.guardrails, now.exceptions, p.options)
	}
	p.last = now
	return now.set, nil
}

func (p *Policy) ofGuardrail(g *v1alpha1.Guardrail, used map[source][]*guardrail.Guardrail) []*guardrail.Guardrail {
	key := source{uid: g.UID, generation: g.Generation}
	if _, known := p.compiled[key]; !known {
		one, _ := policy.Compile(g.Name, &g.Spec, policy.Options{}) // the errors are in it
		p.compiled[key] = []*guardrail.Guardrail{one}
	}
	used[key] = p.compiled[key]
	return used[key]
}

// ofBundle compiles the archive that was accepted for a bundle. Where that is not to
// be had, what the bundle matches cannot be judged.
func (p *Policy) ofBundle(ctx context.Context, b *v1alpha1.GuardrailBundle, used map[source][]*guardrail.Guardrail) ([]*guardrail.Guardrail, error) {
	key := source{uid: b.UID, generation: b.Generation}
	if b.Status.Active != nil {
		key.digest = b.Status.Active.Digest
	}
	known := p.compiled[key]
	if known != nil && !slices.ContainsFunc(known, stalled) {
		used[key] = known
		return known, nil
	}
	var archive []byte
	if key.digest != "" {
		var kept corev1.ConfigMap
		err := p.live.Get(ctx, client.ObjectKey{Namespace: p.namespace, Name: bundle.ArchiveName(b.Name, key.digest)}, &kept)
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("cannot read the archive of bundle %q: %w", b.Name, err)
		}
		archive = kept.BinaryData[bundle.ArchiveKey]
	}
	now := bundle.InForce(b, archive)
	if slices.EqualFunc(known, now, func(a, b *guardrail.Guardrail) bool { return a.Digest == b.Digest && stalled(a) == stalled(b) }) {
		now = known // it is stalled for the same reason
	}
	p.compiled[key], used[key] = now, now
	return now, nil
}

func stalled(g *guardrail.Guardrail) bool { return g.Check == nil }

// ExceptionOf is an exception of the API as guardrails read it.
func ExceptionOf(e *v1alpha1.GuardrailException) guardrail.Exception {
	return guardrail.Exception{
		Namespace: e.Namespace, Name: e.Name, Guardrail: e.Spec.Guardrail, Grant: e.Spec.Grant,
		NotBefore: e.Spec.NotBefore.Time, NotAfter: e.Spec.NotAfter.Time,
	}
}

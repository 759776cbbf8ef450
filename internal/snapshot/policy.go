package snapshot

import (
	"cmp"
	"context"
	"fmt"
	"maps"
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
	cache, api client.Reader
	namespace  string
	options    guardrail.Options

	mu sync.Mutex
	// compiled guardrails, by what they were compiled of: those that either state has.
	compiled map[source]compiled
	// current and live are what Current and Live returned last. One may have what the
	// other has not: a cache is behind.
	current, live state
}

// source is what guardrails were compiled of: a version of a Guardrail, or a bundle
// with the archive that is in force.
type source struct {
	uid        types.UID
	generation int64
	digest     string
}

// compiled is what was made of a source.
type compiled struct {
	guardrails []*guardrail.Guardrail
	// archive is the version of the ConfigMap that has the archive of a bundle; empty
	// if there is none.
	archive string
}

// stalled reports whether the guardrails are not to be had as things are.
func (c *compiled) stalled() bool {
	return slices.ContainsFunc(c.guardrails, func(g *guardrail.Guardrail) bool { return g.Check == nil })
}

// state is a Set and what it was made of. The zero state has none.
type state struct {
	set        *guardrail.Set
	guardrails []*guardrail.Guardrail
	exceptions []guardrail.Exception
	sources    map[source]bool
	// versions of all objects, by UID.
	versions map[types.UID]string
	// waiting for another archive than the one of this version, by its name.
	waiting map[string]string
}

// means reports whether two states come to the same policy.
func (s *state) means(o *state) bool {
	return s.set != nil && slices.Equal(s.guardrails, o.guardrails) && slices.Equal(s.exceptions, o.exceptions)
}

// New returns a Policy that reads by two readers, of which the second reads past
// caches. The archives of bundles are in Sallyport's own namespace.
func New(cache, api client.Reader, namespace string, o guardrail.Options) *Policy {
	return &Policy{cache: cache, api: api, namespace: namespace, options: o, compiled: map[source]compiled{}}
}

// Current is the Set by the caches, which may be behind.
func (p *Policy) Current(ctx context.Context) (*guardrail.Set, error) {
	o, err := p.list(ctx, p.cache)
	if err != nil {
		return nil, err
	}
	return p.set(ctx, o, &p.current)
}

// Live is the Set by the API server: it has every guardrail that was there when Live
// was called.
func (p *Policy) Live(ctx context.Context) (*guardrail.Set, error) {
	versions, err := p.versions(ctx)
	if err != nil {
		return nil, err
	}
	if last := p.unchanged(versions); last.set != nil {
		if same, err := p.sameArchives(ctx, last.waiting); err != nil || same {
			return last.set, err
		}
	}
	o, err := p.list(ctx, p.api)
	if err != nil {
		return nil, err
	}
	return p.set(ctx, o, &p.live)
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
		if err := p.api.List(ctx, list); err != nil {
			return nil, fmt.Errorf("cannot list what the policy is made of: %w", err)
		}
		collect(out, list)
	}
	return out, nil
}

// unchanged is what was live last if these are the versions that it was made of, and
// else the zero state.
func (p *Policy) unchanged(versions map[types.UID]string) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !maps.Equal(p.live.versions, versions) {
		return state{}
	}
	return p.live
}

// sameArchives reports whether what is waited for has not come.
func (p *Policy) sameArchives(ctx context.Context, waiting map[string]string) (bool, error) {
	for name, was := range waiting {
		now := metav1.PartialObjectMetadata{}
		now.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ConfigMap"))
		if err := p.archive(ctx, name, &now); err != nil || now.ResourceVersion != was {
			return false, err
		}
	}
	return true, nil
}

// archive of that name; nothing is read where there is none.
func (p *Policy) archive(ctx context.Context, name string, into client.Object) error {
	err := p.api.Get(ctx, client.ObjectKey{Namespace: p.namespace, Name: name}, into)
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("cannot read the archive of a bundle, %q: %w", name, err)
	}
	return nil
}

// set of the objects, which is from now on the state. It is the Set of either state
// where it means the same.
func (p *Policy) set(ctx context.Context, o *objects, to *state) (*guardrail.Set, error) {
	now := state{sources: map[source]bool{}, versions: o.versions(), waiting: map[string]string{}}
	for i := range o.bundles.Items {
		if err := p.addBundle(ctx, &o.bundles.Items[i], &now); err != nil {
			return nil, err
		}
	}
	for i := range o.exceptions.Items {
		// One that is being deleted excuses nothing any more.
		if e := &o.exceptions.Items[i]; e.DeletionTimestamp.IsZero() {
			now.exceptions = append(now.exceptions, ExceptionOf(e))
		}
	}
	slices.SortFunc(now.exceptions, func(a, b guardrail.Exception) int {
		return strings.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	// Also one that is being deleted: it is in force until it is gone (S27).
	for i := range o.guardrails.Items {
		p.addGuardrail(&o.guardrails.Items[i], &now)
	}
	slices.SortFunc(now.guardrails, func(a, b *guardrail.Guardrail) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Digest, b.Digest))
	})
	switch {
	case p.live.means(&now):
		now.set = p.live.set
	case p.current.means(&now):
		now.set = p.current.set
	default:
		now.set = guardrail.NewSet(now.guardrails, now.exceptions, p.options)
	}
	*to = now
	maps.DeleteFunc(p.compiled, func(key source, _ compiled) bool { return !p.live.sources[key] && !p.current.sources[key] })
	return now.set, nil
}

func (s *state) add(key source, c compiled) {
	s.sources[key] = true
	s.guardrails = append(s.guardrails, c.guardrails...)
}

// addGuardrail compiles one unless that version of it has been. It is called with
// the lock, so that nobody else compiles it as well.
func (p *Policy) addGuardrail(g *v1alpha1.Guardrail, to *state) {
	key := source{uid: g.UID, generation: g.Generation}
	known, ok := p.compiled[key]
	if !ok {
		one, _ := policy.Compile(g.Name, &g.Spec, policy.Options{}) // the errors are in it
		known.guardrails = []*guardrail.Guardrail{one}
		p.compiled[key] = known
	}
	to.add(key, known)
}

// addBundle compiles the archive that was accepted for a bundle. Where that is not
// to be had, what the bundle matches cannot be judged, until there is another
// version of the archive. The archive is read without the lock.
func (p *Policy) addBundle(ctx context.Context, b *v1alpha1.GuardrailBundle, to *state) error {
	key := source{uid: b.UID, generation: b.Generation}
	var name string
	if active := b.Status.Active; active != nil {
		key.digest, name = active.Digest, bundle.ArchiveName(b.Name, active.Digest)
	}
	p.mu.Lock()
	known, ok := p.compiled[key]
	p.mu.Unlock()
	if ok && known.stalled() && name != "" {
		var err error
		if ok, err = p.sameArchives(ctx, map[string]string{name: known.archive}); err != nil {
			return err
		}
	}
	if !ok {
		var kept corev1.ConfigMap
		if name != "" {
			if err := p.archive(ctx, name, &kept); err != nil {
				return err
			}
		}
		known = p.compile(key, b, &kept)
	}
	if known.stalled() && name != "" {
		to.waiting[name] = known.archive
	}
	to.add(key, known)
	return nil
}

// compile a bundle, unless somebody else has done it meanwhile.
func (p *Policy) compile(key source, b *v1alpha1.GuardrailBundle, kept *corev1.ConfigMap) compiled {
	p.mu.Lock()
	defer p.mu.Unlock()
	known, ok := p.compiled[key]
	if ok && (!known.stalled() || known.archive == kept.ResourceVersion) {
		return known
	}
	now := compiled{guardrails: bundle.InForce(b, kept.BinaryData[bundle.ArchiveKey]), archive: kept.ResourceVersion}
	if slices.EqualFunc(known.guardrails, now.guardrails, func(a, b *guardrail.Guardrail) bool { return a.Digest == b.Digest }) {
		now.guardrails = known.guardrails // it is stalled for the same reason
	}
	p.compiled[key] = now
	return now
}

// ExceptionOf is an exception of the API as guardrails read it.
func ExceptionOf(e *v1alpha1.GuardrailException) guardrail.Exception {
	return guardrail.Exception{
		Namespace: e.Namespace, Name: e.Name, Guardrail: e.Spec.Guardrail, Grant: e.Spec.Grant,
		NotBefore: e.Spec.NotBefore.Time, NotAfter: e.Spec.NotAfter.Time,
	}
}

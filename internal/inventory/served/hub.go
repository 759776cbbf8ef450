package served

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// askTimeout bounds one question to the hub: an aggregated API that hangs holds
// the others up no longer.
const askTimeout = 10 * time.Second

// automanaged is on the APIServices that kube-apiserver itself makes for what it
// serves: built-in groups, and the groups of CustomResourceDefinitions.
const automanaged = "kube-aggregator.kubernetes.io/automanaged"

var (
	crdKind        = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}
	apiServiceKind = schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"}
)

// hub is where the facts come from: CustomResourceDefinitions and APIServices
// (metadata only), and discovery.
type hub struct {
	discovery rest.Interface
	cache     cache.Cache
	concerns  func(name string) bool
	poke      func()
}

func newHub(config *rest.Config, httpClient *http.Client, concerns func(string) bool, poke func(), blocked func(error)) (*hub, error) {
	mapper := apimeta.NewDefaultRESTMapper(nil)
	for gvk, plural := range map[schema.GroupVersionKind]string{crdKind: "customresourcedefinitions", apiServiceKind: "apiservices"} {
		resource := gvk.GroupVersion().WithResource(plural)
		mapper.AddSpecific(gvk, resource, resource, apimeta.RESTScopeRoot)
	}
	c, err := cache.New(config, cache.Options{
		HTTPClient: httpClient, Scheme: runtime.NewScheme(), Mapper: mapper, DefaultTransform: bare,
		DefaultWatchErrorHandler: func(ctx context.Context, r *toolscache.Reflector, err error) {
			blocked(err)
			toolscache.DefaultWatchErrorHandler(ctx, r, err)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("cannot watch what the hub serves: %w", err)
	}
	d, err := discovery.NewDiscoveryClientForConfigAndClient(config, httpClient)
	if err != nil {
		return nil, fmt.Errorf("cannot ask what the hub serves: %w", err)
	}
	return &hub{discovery: d.RESTClient(), cache: c, concerns: concerns, poke: poke}, nil
}

// bare keeps of a CustomResourceDefinition or APIService what is asked of it: a
// hub can have hundreds, whose annotations repeat them whole.
func bare(o any) (any, error) {
	if m, ok := o.(*metav1.PartialObjectMetadata); ok {
		m.Annotations, m.ManagedFields, m.OwnerReferences = nil, nil, nil
	}
	return o, nil
}

func metadata(gvk schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(gvk)
	return m
}

// start watches, and returns when it is known what is defined, or the context
// has ended.
func (h *hub) start(ctx context.Context) error {
	for _, gvk := range []schema.GroupVersionKind{crdKind, apiServiceKind} {
		informer, err := h.cache.GetInformer(ctx, metadata(gvk), cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("cannot watch %s: %w", gvk.GroupKind(), err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    h.heard,
			UpdateFunc: func(_, o any) { h.heard(o) },
			DeleteFunc: h.heard,
		}); err != nil {
			return fmt.Errorf("cannot watch %s: %w", gvk.GroupKind(), err)
		}
	}
	go func() { _ = h.cache.Start(ctx) }() // ends with the context, and has no other error
	h.cache.WaitForCacheSync(ctx)
	return nil
}

// heard of a change to a CustomResourceDefinition or APIService.
func (h *hub) heard(o any) {
	if last, ok := o.(toolscache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	if m, ok := o.(*metav1.PartialObjectMetadata); ok && h.concerns(m.Name) {
		h.poke()
	}
}

// ask the hub for each group version, at once.
func (h *hub) ask(ctx context.Context, versions []schema.GroupVersion) map[schema.GroupVersion]answer {
	answers := make(map[schema.GroupVersion]answer, len(versions))
	for _, gv := range versions {
		answers[gv] = answer{}
	}
	type said struct {
		gv schema.GroupVersion
		answer
	}
	all := make(chan said, len(answers))
	var group errgroup.Group
	group.SetLimit(8)
	for gv := range answers {
		group.Go(func() error {
			all <- said{gv, h.askOne(ctx, gv)}
			return nil
		})
	}
	_ = group.Wait() // none fails
	close(all)
	for s := range all {
		answers[s.gv] = s.answer
	}
	return answers
}

func (h *hub) askOne(ctx context.Context, gv schema.GroupVersion) answer {
	path := []string{"/apis", gv.Group, gv.Version}
	if gv.Group == "" {
		path = []string{"/api", gv.Version}
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list := &metav1.APIResourceList{}
	err := h.discovery.Get().AbsPath(path...).Do(ctx).Into(list)
	if apierrors.IsNotFound(err) {
		return answer{}
	}
	if err != nil {
		return answer{failed: err}
	}
	resources := make(map[string]bool, len(list.APIResources))
	for _, r := range list.APIResources {
		resources[r.Name] = true
	}
	return answer{resources: resources}
}

// facts about a kind.
func (h *hub) facts(ctx context.Context, k Kind, answers map[schema.GroupVersion]answer) (facts, error) {
	f := facts{}
	for _, gv := range k.versions() {
		f.answers = append(f.answers, answers[gv])
		service, err := h.find(ctx, apiServiceKind, gv.Version+"."+gv.Group)
		if err != nil {
			return facts{}, err
		}
		if service != nil && service.Labels[automanaged] == "" {
			f.aggregated = service.Name
		}
	}
	definition, err := h.find(ctx, crdKind, k.Resource+"."+k.GVK.Group)
	f.defined = definition != nil
	return f, err
}

// find is nil where there is none.
func (h *hub) find(ctx context.Context, gvk schema.GroupVersionKind, name string) (*metav1.PartialObjectMetadata, error) {
	m := metadata(gvk)
	err := h.cache.Get(ctx, client.ObjectKey{Name: name}, m)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read %s %q: %w", gvk.Kind, name, err)
	}
	return m, nil
}

package offline

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/sallyport-dev/sallyport/internal/inventory"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// hub of files, from which the inventory reads the fleet as it would from another.
type hub struct {
	scheme  *runtime.Scheme
	objects map[schema.GroupKind][]unstructured.Unstructured
}

// errGet: the inventory lists.
var errGet = errors.New("objects are listed, and not read one by one")

// inventoryKinds are the kinds of files that the inventory is read from. Secrets
// are not: what comes out of a cluster to be read here should have none.
func inventoryKinds() []schema.GroupKind {
	kinds := inventory.Kinds(inventory.Options{ProfileNamespaces: []string{"any"}})
	out := make([]schema.GroupKind, 0, len(kinds))
	for _, k := range kinds {
		out = append(out, k.GVK.GroupKind())
	}
	return out
}

func newHub(objects map[schema.GroupKind][]unstructured.Unstructured) (*hub, error) {
	h := &hub{scheme: runtime.NewScheme(), objects: objects}
	return h, inventory.AddToScheme(h.scheme)
}

// profileNamespaces are those that have ClusterProfiles.
func (h *hub) profileNamespaces() []string {
	out := []string{}
	for i := range h.objects[inventory.ClusterProfileKind.GroupKind()] {
		out = append(out, h.objects[inventory.ClusterProfileKind.GroupKind()][i].GetNamespace())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Status of a kind: a hub that has no object of a kind need not serve it. Bindings of
// cluster sets are committed with grants, but which clusters are in the sets only
// the hub knows; without them the bindings say nothing.
func (h *hub) Status(kind schema.GroupKind) served.Status {
	if len(h.objects[kind]) == 0 || kind == inventory.ManagedClusterSetBindingKind.GroupKind() && len(h.objects[inventory.ManagedClusterSetKind.GroupKind()]) == 0 {
		return served.Status{State: served.Absent}
	}
	return served.Status{State: served.Current, GVK: h.objects[kind][0].GroupVersionKind()}
}

// Get is not what an inventory does.
func (h *hub) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return errGet
}

// List the objects of a kind in all namespaces.
func (h *hub) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	gvk, err := apiutil.GVKForObject(into, h.scheme)
	if err != nil {
		return err
	}
	found := h.objects[schema.GroupKind{Group: gvk.Group, Kind: gvk.Kind[:len(gvk.Kind)-len("List")]}]
	if list, ok := into.(*unstructured.UnstructuredList); ok {
		list.Items = slices.Clone(found)
		return nil
	}
	items := make([]any, 0, len(found))
	for i := range found {
		items = append(items, found[i].Object)
	}
	list := map[string]any{"apiVersion": gvk.GroupVersion().String(), "kind": gvk.Kind, "items": items}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(list, into); err != nil {
		return fmt.Errorf("cannot read %s: %w", gvk.Kind, err)
	}
	return nil
}

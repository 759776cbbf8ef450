package source

import (
	"context"
	"encoding/json"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// pageSize bounds what a list holds at a time.
const pageSize = 500

// observe lists the metadata of all objects of the kinds that the commit or the
// inventory name: also of those without the label, which a commit may adopt.
func observe(ctx context.Context, c client.Client, objects []Object, inv Inventory) (live, error) {
	needed := map[schema.GroupKind]bool{} // by a commit, not only by the inventory
	for ref := range inv {
		needed[schema.GroupKind{Group: ref.Group, Kind: ref.Kind}] = false
	}
	for _, o := range objects {
		needed[o.GroupVersionKind().GroupKind()] = true
	}
	found := live{}
	for _, k := range kinds {
		inCommit, named := needed[k.GroupKind()]
		if !named || k.GroupVersionKind == namespaceKind {
			continue
		}
		err := list(ctx, c, k, found)
		if meta.IsNoMatchError(err) && !inCommit {
			continue // the kind is gone from the cluster, and its objects with it
		}
		if err != nil {
			return nil, fmt.Errorf("cannot list %s (%s): %w", k.Kind, k.GroupVersion(), err)
		}
	}
	return found, nil
}

func list(ctx context.Context, c client.Client, k kind, into live) error {
	page := &metav1.PartialObjectMetadataList{}
	page.SetGroupVersionKind(k.GroupVersion().WithKind(k.Kind + "List"))
	for {
		if err := c.List(ctx, page, client.Limit(pageSize), client.Continue(page.Continue)); err != nil {
			return err
		}
		for _, item := range page.Items {
			into[Ref{Group: k.Group, Kind: k.Kind, Namespace: item.Namespace, Name: item.Name}] = item.ObjectMeta
		}
		if page.Continue == "" {
			return nil
		}
	}
}

// absent returns the namespaces of the commit that do not exist.
func absent(ctx context.Context, c client.Client, namespaces []Object) ([]Object, error) {
	var missing []Object
	for _, o := range namespaces {
		there := &metav1.PartialObjectMetadata{}
		there.SetGroupVersionKind(namespaceKind)
		err := c.Get(ctx, types.NamespacedName{Name: o.GetName()}, there)
		if apierrors.IsNotFound(err) {
			missing = append(missing, o)
		} else if err != nil {
			return nil, fmt.Errorf("cannot get namespace %q: %w", o.GetName(), err)
		}
	}
	return missing, nil
}

// createNamespace creates what somebody else may have created just now.
func createNamespace(ctx context.Context, c client.Client, o Object) error {
	err := c.Create(ctx, o.DeepCopy(), client.FieldOwner(FieldManager), client.FieldValidation(metav1.FieldValidationStrict))
	if err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("cannot create namespace %q (%s): %w", o.GetName(), o.From, err)
	}
	return nil
}

// tryApply asks the API server, admission included, whether it would accept.
func tryApply(ctx context.Context, c client.Client, ch change) error {
	_, err := patch(ctx, c, ch, client.DryRunAll)
	return err
}

// apply makes an object what Git says, and returns its entry as it then is.
func apply(ctx context.Context, c client.Client, ch change) (Entry, error) {
	if ch.was != nil {
		if err := own(ctx, c, ch); err != nil {
			return Entry{}, err
		}
	}
	return patch(ctx, c, ch)
}

func patch(ctx context.Context, c client.Client, ch change, options ...client.PatchOption) (Entry, error) {
	data, err := json.Marshal(ch.Object.Object)
	if err != nil {
		return Entry{}, fmt.Errorf("cannot apply %s (%s): %w", ch.entry.Ref, ch.From, err)
	}
	result := ch.DeepCopy()
	options = append(options, client.FieldOwner(FieldManager), client.ForceOwnership, client.FieldValidation(metav1.FieldValidationStrict))
	if err := c.Patch(ctx, result, client.RawPatch(types.ApplyPatchType, data), options...); err != nil {
		return Entry{}, fmt.Errorf("cannot apply %s (%s): %w", ch.entry.Ref, ch.From, err)
	}
	entry := ch.entry
	entry.UID, entry.Generation = result.GetUID(), result.GetGeneration()
	return entry, nil
}

// own takes the content of an object over from other field managers, so that what
// they added goes when the object is applied.
func own(ctx context.Context, c client.Client, ch change) error {
	fields, changed, err := takeOver(ch.was.ManagedFields, ch.GetAPIVersion())
	if err != nil || !changed {
		return err
	}
	data, err := json.Marshal(map[string]any{"metadata": map[string]any{
		"managedFields":   fields,
		"resourceVersion": ch.was.ResourceVersion, // or another writer's fields would be forgotten
		"uid":             ch.was.UID,
	}})
	if err != nil {
		return err
	}
	target := &metav1.PartialObjectMetadata{}
	target.SetGroupVersionKind(ch.GroupVersionKind())
	target.SetNamespace(ch.GetNamespace())
	target.SetName(ch.GetName())
	if err := c.Patch(ctx, target, client.RawPatch(types.MergePatchType, data), client.FieldOwner(FieldManager)); err != nil {
		return fmt.Errorf("cannot take over the fields of %s: %w", ch.entry.Ref, err)
	}
	return nil
}

// remove deletes the object that the plan looked at, not one of the same name
// that has come since.
func remove(ctx context.Context, c client.Client, r removal) error {
	target := &metav1.PartialObjectMetadata{}
	target.SetGroupVersionKind(kinds[r.rank()].GroupVersionKind)
	target.SetNamespace(r.Namespace)
	target.SetName(r.Name)
	err := c.Delete(ctx, target, client.Preconditions{UID: &r.uid})
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("cannot prune %s: %w", r.Ref, err)
	}
	return nil
}

package direct

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/distribute"
)

var errForeign = errors.New("an object of this name exists that Sallyport did not make")

// bindable refuses a binding whose role is not as it should be on the member: it
// would give whatever the role says instead. Where the role is somebody else's,
// the binding is taken away if it stands.
func bindable(ctx context.Context, member client.Client, o *unstructured.Unstructured, unsound map[distribute.ObjectRef]error) error {
	kind, _, _ := unstructured.NestedString(o.Object, "roleRef", "kind")
	name, _, _ := unstructured.NestedString(o.Object, "roleRef", "name")
	role := distribute.ObjectRef{Kind: kind, Name: name}
	if kind == "Role" {
		role.Namespace = o.GetNamespace()
	}
	why, ok := unsound[role]
	if !ok {
		return nil
	}
	if errors.Is(why, errForeign) {
		if err := remove(ctx, member, distribute.ObjectRef{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}); err != nil {
			return err
		}
	}
	return fmt.Errorf("not bound, since %s could not be applied: %w", role, why)
}

// apply makes an object on a member be what is wanted, and nothing more.
func apply(ctx context.Context, member client.Client, want *unstructured.Unstructured) error {
	live := empty(distribute.ObjectRef{Kind: want.GetKind(), Namespace: want.GetNamespace(), Name: want.GetName()})
	err := member.Get(ctx, client.ObjectKeyFromObject(live), live)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return err
	case !distribute.Ours(live):
		return errForeign
	case exact(live, want):
		return nil
	case !reflect.DeepEqual(live.Object["roleRef"], want.Object["roleRef"]):
		// A roleRef cannot be changed.
		if err := removeSeen(ctx, member, live); err != nil {
			return err
		}
	}
	applied := want.DeepCopy()
	if err := member.Apply(ctx, client.ApplyConfigurationFromUnstructured(applied), fieldOwner, client.ForceOwnership); err != nil {
		return err
	}
	if exact(applied, want) {
		return nil
	}
	// An apply leaves what somebody else has added: an aggregationRule, a label by
	// which another role could take this one up, or one that names another grant.
	replaced := want.DeepCopy()
	replaced.SetResourceVersion(applied.GetResourceVersion())
	return member.Update(ctx, replaced, fieldOwner)
}

// exact reports whether a live object means just what is wanted.
func exact(live, want *unstructured.Unstructured) bool {
	for _, field := range []string{"rules", "subjects", "roleRef", "aggregationRule"} {
		if !reflect.DeepEqual(live.Object[field], want.Object[field]) {
			return false
		}
	}
	if !maps.Equal(live.GetLabels(), want.GetLabels()) {
		return false
	}
	have := live.GetAnnotations()
	for k, v := range want.GetAnnotations() {
		if have[k] != v {
			return false
		}
	}
	return true
}

// remove an object from a member, if it is Sallyport's.
func remove(ctx context.Context, member client.Client, ref distribute.ObjectRef) error {
	live := empty(ref)
	switch err := member.Get(ctx, client.ObjectKeyFromObject(live), live); {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return err
	case !distribute.Ours(live):
		return nil
	}
	return removeSeen(ctx, member, live)
}

func removeSeen(ctx context.Context, member client.Client, live *unstructured.Unstructured) error {
	uid := live.GetUID()
	return client.IgnoreNotFound(member.Delete(ctx, live, client.Preconditions{UID: &uid}))
}

func empty(ref distribute.ObjectRef) *unstructured.Unstructured {
	o := &unstructured.Unstructured{}
	o.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind(ref.Kind))
	o.SetNamespace(ref.Namespace)
	o.SetName(ref.Name)
	return o
}

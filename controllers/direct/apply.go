package direct

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

// apply makes an object on a member be what is wanted, and nothing more.
func apply(ctx context.Context, member client.Client, want *unstructured.Unstructured) error {
	live := empty(distribute.ObjectRef{Kind: want.GetKind(), Namespace: want.GetNamespace(), Name: want.GetName()})
	err := member.Get(ctx, client.ObjectKeyFromObject(live), live)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return err
	case !distribute.Ours(live):
		return fmt.Errorf("an object of this name exists that Sallyport did not make")
	case exact(live, want):
		return nil
	case !reflect.DeepEqual(live.Object["roleRef"], want.Object["roleRef"]):
		// A roleRef cannot be changed.
		if err := removeSeen(ctx, member, live); err != nil {
			return err
		}
	case added(live, want):
		// An apply leaves what somebody else has added.
		replaced := want.DeepCopy()
		replaced.SetResourceVersion(live.GetResourceVersion())
		return member.Update(ctx, replaced, fieldOwner)
	}
	return member.Apply(ctx, client.ApplyConfigurationFromUnstructured(want.DeepCopy()), fieldOwner, client.ForceOwnership)
}

// added reports whether a live object has what an apply of want would not take
// away: an aggregationRule, or a label by which another role could take it up.
func added(live, want *unstructured.Unstructured) bool {
	if live.Object["aggregationRule"] != nil {
		return true
	}
	wanted := want.GetLabels()
	for label := range live.GetLabels() {
		if _, ok := wanted[label]; !ok && !strings.HasPrefix(label, v1alpha1.GrantLabelPrefix) {
			return true
		}
	}
	return false
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

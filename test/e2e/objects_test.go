package e2e

import (
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// each object of a list, of whatever Go type.
func (w *world) each(list client.ObjectList, do func(*unstructured.Unstructured)) {
	w.Helper()
	w.must(meta.EachListItem(list, func(o runtime.Object) error {
		content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
		if err != nil {
			return err
		}
		u := &unstructured.Unstructured{Object: content}
		gvk, err := apiutil.GVKForObject(o, w.hub.Scheme())
		if err != nil {
			return err
		}
		u.SetGroupVersionKind(gvk)
		do(u)
		return nil
	}))
}

package direct

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/distribute"
)

type only struct{ member client.Client }

func (o only) Client(context.Context, string) (client.Client, error) { return o.member, nil }

// A member that neither answers nor refuses is reported all the same: the
// deadline for the member is not one for telling the hub. (Fakes: test/e2e has
// the real thing for members that answer or refuse.)
func TestMemberThatHangs(t *testing.T) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	carrier := distribute.Direct{Namespace: "sallyport-system"}
	parcel := distribute.Parcel{Cluster: "edge-1", Name: "sallyport-0", Objects: []*compile.Object{{
		JSON: []byte(`{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"sallyport:role"},"rules":[]}`),
	}}}
	order, err := carrier.Wrap(parcel, nil)
	if err != nil {
		t.Fatal(err)
	}
	hub := fake.NewClientBuilder().WithScheme(scheme).WithObjects(order).Build()
	hangs := interceptor.NewClient(fake.NewClientBuilder().WithScheme(scheme).Build(), interceptor.Funcs{
		Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
			<-ctx.Done()
			return ctx.Err()
		},
	})
	r := &Reconciler{Client: hub, Members: only{hangs}, Namespace: "sallyport-system", Timeout: 10 * time.Millisecond}
	key := client.ObjectKeyFromObject(order)
	if _, err := r.Reconcile(t.Context(), ctrl.Request{NamespacedName: key}); err == nil {
		t.Error("got no error, and so no second attempt")
	}
	told := &corev1.ConfigMap{}
	if err := hub.Get(t.Context(), key, told); err != nil {
		t.Fatal(err)
	}
	s := carrier.Standing(told)
	if s.Confirmed || len(s.Failures) != 1 || !strings.Contains(s.Failures[0].Message, "deadline") {
		t.Errorf("the hub was told %+v", s)
	}
}

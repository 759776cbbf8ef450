package snapshot

import (
	"context"
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/effective"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// filled is a cache as informers fill it: lists are of what is there, without copies.
type filled struct{ grants []v1alpha1.AccessGrant }

func (f *filled) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return nil
}

func (f *filled) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	switch list := list.(type) {
	case *v1alpha1.AccessGrantList:
		list.Items = append(list.Items, f.grants...)
	case *metav1.PartialObjectMetadataList:
		for n := range 100 {
			list.Items = append(list.Items, metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("team-%d", n)}})
		}
	case *rbacv1.ClusterRoleList:
		for n := range 1000 {
			list.Items = append(list.Items, rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("sallyport:hub:user:user-%d", n)}})
		}
	}
	return nil
}

// BenchmarkChange is from one grant's change to the index that has it: 10,000 grants to
// 1,000 people on 100 clusters, without what the hub takes to answer.
func BenchmarkChange(b *testing.B) {
	var members known
	for n := range 100 {
		members = append(members, fleet.Member{
			Name: fmt.Sprintf("c-%d", n), Accepted: true, Delivery: fleet.ManifestWork, Paths: subject.Gateway,
			Labels: map[string]string{"env": []string{"prod", "dev"}[n%2], "shard": fmt.Sprint(n % 20)},
		})
	}
	cache := &filled{}
	for n := range 10_000 {
		g := adopted(fmt.Sprintf("g-%d", n), to(fmt.Sprintf("user-%d", n%1000)))
		g.Namespace, g.UID, g.Generation = fmt.Sprintf("team-%d", n%100), types.UID(fmt.Sprint(n)), 1
		g.Spec.Clusters = v1alpha1.ClusterSelection{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"shard": fmt.Sprint(n % 20)}}}
		cache.grants = append(cache.grants, *g)
	}
	w := &world{cache: cache, live: cache, inventory: members, policy: inForce{guardrail.NewSet(nil, nil, guardrail.Options{})}}
	var builder effective.Builder
	build := func() {
		s, err := w.read(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		s.Now = noon
		builder.Build(s)
	}
	build()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		g := &cache.grants[n%len(cache.grants)]
		g.Generation++
		g.Spec.Reason = fmt.Sprint(n)
		build()
	}
}

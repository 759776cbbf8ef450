package inventory

import (
	"cmp"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
)

// impersonated has the gateway come to the member as that service account, with
// tokens of that issuer. An account that nobody issues tokens of is not said to be
// one: it would be given rights, and whoever can make it on the member had them.
func (o Options) impersonated(m *fleet.Member, account types.NamespacedName, issuer fleet.Issuer) {
	if o.Impersonator.Name == "" || account.Name == "" || account.Namespace == "" {
		return
	}
	m.Paths |= subject.Impersonated
	m.Impersonator, m.Issuer, m.ExtraKeys = account, issuer, o.ExtraKeys
}

// The add-ons of Open Cluster Management that matter to a member.
const (
	clusterProxyAddOn          = "cluster-proxy"
	managedServiceAccountAddOn = "managed-serviceaccount"
)

// addOns of a cluster.
type addOns struct {
	// clusterProxy is there. It counts even while it is unhealthy, since the paths
	// decide whom a member lets in.
	clusterProxy bool
	// accounts is the namespace on the member in which the managed-serviceaccount
	// add-on makes service accounts; empty where it is not installed.
	accounts string
}

func (a *addOns) add(addOn *unstructured.Unstructured) {
	if addOn.GetDeletionTimestamp() != nil {
		return
	}
	switch addOn.GetName() {
	case clusterProxyAddOn:
		a.clusterProxy = true
	case managedServiceAccountAddOn:
		status, _, _ := unstructured.NestedMap(addOn.Object, "status")
		a.accounts = cmp.Or(text(status, "namespace"), a.accounts)
	}
}

// bareAddOn keeps of a ManagedClusterAddOn what is asked of it.
func bareAddOn(o any) (any, error) {
	u, ok := o.(*unstructured.Unstructured)
	if !ok {
		return o, nil
	}
	bare := &unstructured.Unstructured{}
	bare.SetGroupVersionKind(u.GroupVersionKind())
	bare.SetNamespace(u.GetNamespace())
	bare.SetName(u.GetName())
	bare.SetUID(u.GetUID())
	bare.SetResourceVersion(u.GetResourceVersion())
	bare.SetDeletionTimestamp(u.GetDeletionTimestamp())
	if namespace, _, _ := unstructured.NestedString(u.Object, "status", "namespace"); namespace != "" {
		if err := unstructured.SetNestedField(bare.Object, namespace, "status", "namespace"); err != nil {
			return nil, err
		}
	}
	return bare, nil
}

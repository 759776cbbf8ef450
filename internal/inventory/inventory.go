package inventory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// DefaultProfileNamespace is where Open Cluster Management puts ClusterProfiles.
const DefaultProfileNamespace = "open-cluster-management"

// Options say where inventories are read. The zero value reads no Secrets.
type Options struct {
	// Namespace is Sallyport's own, and the only one whose Secrets are read.
	Namespace string
	// ProfileNamespaces are those whose ClusterProfiles are read, where several
	// have one of the same name the first one counts. nil means Namespace and
	// DefaultProfileNamespace; an empty slice reads none.
	ProfileNamespaces []string
	// Impersonator is the service account on members as which the gateway comes to
	// them, but for those where an inventory knows another one. Empty where there is
	// no gateway: then nobody is impersonated but by Karmada.
	Impersonator types.NamespacedName
	// ExtraKeys are the keys by which the gateway tells members of a person's extra,
	// beside Kubernetes' own.
	ExtraKeys []string
}

func (o Options) profileNamespaces() []string {
	from := o.ProfileNamespaces
	if from == nil {
		from = []string{o.Namespace, DefaultProfileNamespace}
	}
	var namespaces []string
	for _, namespace := range from {
		if namespace != "" && !slices.Contains(namespaces, namespace) {
			namespaces = append(namespaces, namespace)
		}
	}
	return namespaces
}

// Hub is what an Inventory reads from; *served.Kinds is one.
type Hub interface {
	client.Reader
	Status(schema.GroupKind) served.Status
}

// Problem is something in an inventory that is not as it should be, told to
// operators. It never has secret material.
type Problem struct {
	// Source names the object or kind: `Secret sallyport-system/eu-1`.
	Source string
	// Message is stable while the problem is.
	Message string
}

// String is "source: message".
func (p Problem) String() string { return p.Source + ": " + p.Message }

// Inventory reads the fleet. It remembers nothing but which kubeconfigs it has
// checked. Its methods may be called from several goroutines.
type Inventory struct {
	hub     Hub
	options Options
	checks  checks
}

// New makes an Inventory. The hub has to follow Kinds(options).
func New(hub Hub, options Options) *Inventory {
	return &Inventory{hub: hub, options: options}
}

// Fleet reads every inventory that the hub serves. Problems are sorted. It is an
// error if any inventory that may have members was never read in full: then
// nothing is known of the fleet, least of all that it is empty. One that was
// read and does not answer now is taken as it was last seen, with a Problem.
func (i *Inventory) Fleet(ctx context.Context) (*fleet.Fleet, []Problem, error) {
	r := reading{hub: i.hub, ctx: ctx}
	members := slices.Concat(r.managedClusters(i.options), r.karmadaClusters(i.options), r.clusterProfiles(i.options.profileNamespaces()))
	kubeconfigs := r.kubeconfigs(i.options, &i.checks)
	if r.err != nil {
		return nil, nil, fmt.Errorf("cannot read the fleet: %w", r.err)
	}
	f := fleet.New(append(members, kubeconfigs...))
	r.unused(f, kubeconfigs, i.options.Namespace)
	return f, r.sorted(), nil
}

// reading is one pass over the hub. After an error it reads nothing.
type reading struct {
	hub      Hub
	ctx      context.Context
	problems []Problem
	err      error
}

// list reads a kind, and reports whether the hub has it.
func (r *reading) list(gvk schema.GroupVersionKind, into client.ObjectList, opts ...client.ListOption) bool {
	if r.err != nil {
		return false
	}
	status := r.hub.Status(gvk.GroupKind())
	switch {
	case status.State == served.Absent:
		return false
	case !status.State.Readable():
		r.err = fmt.Errorf("%s: %w: %s", gvk.GroupKind(), served.ErrUnknown, status.Message)
		return false
	case status.State == served.Stale:
		r.report(gvk.GroupKind().String(), "read as it was last seen: "+status.Message)
	}
	switch into.(type) {
	case *unstructured.UnstructuredList, *metav1.PartialObjectMetadataList:
		into.GetObjectKind().SetGroupVersionKind(status.GVK.GroupVersion().WithKind(gvk.Kind + "List"))
	}
	// What is read is looked at, and not changed: no copies.
	opts = append(opts, client.UnsafeDisableDeepCopy)
	if err := r.hub.List(r.ctx, into, opts...); err != nil {
		r.err = fmt.Errorf("%s: %w", gvk.GroupKind(), err)
		return false
	}
	return true
}

func (r *reading) report(source, message string) {
	r.problems = append(r.problems, Problem{Source: source, Message: message})
}

func (r *reading) sorted() []Problem {
	slices.SortFunc(r.problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Source, b.Source), cmp.Compare(a.Message, b.Message))
	})
	return r.problems
}

func (r *reading) managedClusters(o Options) []fleet.Member {
	list := &clusterv1.ManagedClusterList{}
	all := &unstructured.UnstructuredList{}
	if !r.list(ManagedClusterKind, list) {
		return nil
	}
	r.list(ManagedClusterAddOnKind, all)
	of := map[string]addOns{} // by cluster
	for n := range all.Items {
		a := of[all.Items[n].GetNamespace()]
		a.add(&all.Items[n])
		of[all.Items[n].GetNamespace()] = a
	}
	var members []fleet.Member
	for n := range list.Items {
		c := &list.Items[n]
		if m, in := fromManagedCluster(c, of[c.Name].clusterProxy); in {
			o.impersonated(&m, types.NamespacedName{Namespace: of[c.Name].accounts, Name: o.Impersonator.Name}, fleet.ManagedServiceAccount)
			members = append(members, m)
		}
	}
	return members
}

func (r *reading) karmadaClusters(o Options) []fleet.Member {
	list := &unstructured.UnstructuredList{}
	if !r.list(KarmadaClusterKind, list) {
		return nil
	}
	var members []fleet.Member
	for n := range list.Items {
		m := fromKarmadaCluster(&list.Items[n])
		o.impersonated(&m, m.Impersonator, fleet.KarmadaSecret)
		members = append(members, m)
	}
	return members
}

func (r *reading) clusterProfiles(namespaces []string) []fleet.Member {
	list := &unstructured.UnstructuredList{}
	if len(namespaces) == 0 || !r.list(ClusterProfileKind, list) {
		return nil
	}
	rank := func(u *unstructured.Unstructured) int { return slices.Index(namespaces, u.GetNamespace()) }
	slices.SortFunc(list.Items, func(a, b unstructured.Unstructured) int {
		return cmp.Or(rank(&a)-rank(&b), cmp.Compare(a.GetName(), b.GetName()))
	})
	var members []fleet.Member
	taken := map[string]string{}
	for n := range list.Items {
		u := &list.Items[n]
		m, in := fromClusterProfile(u)
		// The hub is told to hold only those namespaces. This does not rely on it.
		if !in || rank(u) < 0 {
			continue
		}
		if first, twice := taken[m.Name]; twice {
			r.report("ClusterProfile "+u.GetNamespace()+"/"+m.Name, fmt.Sprintf("ignored: namespace %q has one of that name", first))
			continue
		}
		taken[m.Name] = u.GetNamespace()
		members = append(members, m)
	}
	return members
}

func (r *reading) kubeconfigs(o Options, check *checks) []fleet.Member {
	list, namespace := &corev1.SecretList{}, o.Namespace
	if namespace == "" || !r.list(SecretKind, list, client.InNamespace(namespace), client.MatchingLabelsSelector{Selector: hasClusterLabel()}) {
		return nil
	}
	// The oldest of several for one cluster: a second one takes nothing over.
	slices.SortFunc(list.Items, func(a, b corev1.Secret) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var members []fleet.Member
	taken := map[string]string{}
	for n := range list.Items {
		s := &list.Items[n]
		m, in, problems := fromSecret(s, check.kubeconfig(s))
		for _, p := range problems {
			r.report(secretSource(s.Namespace, s.Name), p)
		}
		if !in {
			continue
		}
		if first, twice := taken[m.Name]; twice {
			r.report(secretSource(s.Namespace, s.Name), fmt.Sprintf("ignored: the older Secret %q is for cluster %q", first, m.Name))
			continue
		}
		taken[m.Name] = s.Name
		o.impersonated(&m, o.Impersonator, fleet.TokenRequest)
		members = append(members, m)
	}
	check.forgetOthers(list.Items)
	return members
}

// unused reports the Secrets of clusters that are delivered to in another way, and
// have the impersonator's tokens from elsewhere.
func (r *reading) unused(f *fleet.Fleet, kubeconfigs []fleet.Member, namespace string) {
	for _, k := range kubeconfigs {
		if m, _ := f.Get(k.Name); m.Delivery != fleet.Direct && m.Issuer != fleet.TokenRequest {
			r.report(secretSource(namespace, k.Secret), fmt.Sprintf("not used: cluster %q is delivered to by %s", k.Name, m.Delivery))
		}
	}
}

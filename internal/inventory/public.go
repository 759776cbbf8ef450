package inventory

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// DescriptionKind is what describes a member that only a kubeconfig Secret tells of,
// to those who are not to read Secrets: a ConfigMap in Sallyport's own namespace, with
// the label of the cluster.
var DescriptionKind = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}

// descriptionKey of the data of such a ConfigMap.
const descriptionKey = "member.json"

// description of a member, without anything by which to reach it.
type description struct {
	Labels      map[string]string `json:"labels,omitempty"`
	Unavailable bool              `json:"unavailable,omitempty"`
}

// Describe the members of a fleet that only a kubeconfig tells of, in their order.
func Describe(f *fleet.Fleet, namespace string) []*corev1.ConfigMap {
	var out []*corev1.ConfigMap
	for _, m := range f.Members() {
		if m.Delivery != fleet.Direct {
			continue
		}
		raw, err := json.Marshal(description{Labels: m.Labels, Unavailable: m.Availability == fleet.Unavailable})
		if err != nil { // strings and a bool
			panic(fmt.Sprintf("cannot marshal labels: %v", err))
		}
		out = append(out, &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: namespace, Name: "member-" + m.Name,
				Labels: map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue, v1alpha1.ClusterLabel: m.Name},
			},
			Data: map[string]string{descriptionKey: string(raw)},
		})
	}
	return out
}

// Described reports whether a ConfigMap has that content.
func Described(have, want *corev1.ConfigMap) bool {
	return maps.Equal(have.Labels, want.Labels) && maps.Equal(have.Data, want.Data)
}

// fromDescription is the member that a ConfigMap describes, and whether it is in the
// fleet.
func fromDescription(cm *corev1.ConfigMap) (fleet.Member, bool, string) {
	name := cm.Labels[v1alpha1.ClusterLabel]
	if !cm.DeletionTimestamp.IsZero() {
		return fleet.Member{}, false, ""
	}
	if cm.Name != "member-"+name || len(validation.IsDNS1123Subdomain(name)) > 0 {
		return fleet.Member{}, false, fmt.Sprintf("label %s: %q is not the cluster that the name says", v1alpha1.ClusterLabel, name)
	}
	var d description
	if err := json.Unmarshal([]byte(cm.Data[descriptionKey]), &d); err != nil {
		return fleet.Member{}, false, "the description cannot be read"
	}
	m := fleet.Member{Name: name, Labels: d.Labels, Accepted: true, Delivery: fleet.Direct, Paths: subject.Gateway}
	if d.Unavailable {
		m.Availability = fleet.Unavailable
	}
	return m, true, ""
}

// Public is an Inventory for who may not read Secrets: members that only a kubeconfig
// tells of are as the controller describes them.
type Public struct {
	*Inventory
	namespace string
}

// NewPublic makes a Public. The hub has to follow PublicKinds(options).
func NewPublic(hub Hub, options Options) *Public {
	return &Public{New(hub, options.public()), options.Namespace}
}

// PublicKinds are what a served.Kinds has to follow for a Public with the same options.
func PublicKinds(options Options) []served.Kind {
	return append(Kinds(options.public()), served.Kind{
		GVK: DescriptionKind, Resource: "configmaps", Namespaced: true, Object: &corev1.ConfigMap{},
		Namespaces: []string{options.Namespace}, Labels: hasClusterLabel(),
	})
}

// public reads what Options do, but no Secrets.
func (o Options) public() Options {
	o.ProfileNamespaces = o.profileNamespaces()
	if o.ProfileNamespaces == nil {
		o.ProfileNamespaces = []string{}
	}
	o.Namespace = ""
	return o
}

// Fleet is as that of an Inventory.
func (p *Public) Fleet(ctx context.Context) (*fleet.Fleet, []Problem, error) {
	f, problems, err := p.Inventory.Fleet(ctx)
	if err != nil {
		return nil, nil, err
	}
	r := reading{hub: p.hub, ctx: ctx, problems: problems}
	list := &corev1.ConfigMapList{}
	r.list(DescriptionKind, list, client.InNamespace(p.namespace), client.MatchingLabelsSelector{Selector: hasClusterLabel()})
	if r.err != nil {
		return nil, nil, fmt.Errorf("cannot read the fleet: %w", r.err)
	}
	members := slices.Clone(f.Members())
	for i := range list.Items {
		m, in, problem := fromDescription(&list.Items[i])
		if problem != "" {
			r.report("ConfigMap "+p.namespace+"/"+list.Items[i].Name, problem)
		}
		if in {
			members = append(members, m)
		}
	}
	return fleet.New(members), r.sorted(), nil
}

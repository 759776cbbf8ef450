package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	clusterv1 "open-cluster-management.io/api/cluster/v1"
	workv1 "open-cluster-management.io/api/work/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/core/compile"
	"github.com/sallyport-dev/sallyport/internal/core/fleet"
	"github.com/sallyport-dev/sallyport/internal/core/guardrail"
	"github.com/sallyport-dev/sallyport/internal/core/subject"
	"github.com/sallyport-dev/sallyport/internal/policy"
	"github.com/sallyport-dev/sallyport/internal/snapshot"
)

// desired compiles what the grants on the hub say now, as the controller should.
func (w *world) desired() compile.Output {
	w.Helper()
	var grants v1alpha1.AccessGrantList
	var roles v1alpha1.AccessRoleList
	var clusters clusterv1.ManagedClusterList
	w.must(w.hub.List(w.ctx, &grants))
	w.must(w.hub.List(w.ctx, &roles))
	w.must(w.hub.List(w.ctx, &clusters))
	s := compile.Snapshot{Guardrails: w.policy(), Point: guardrail.Compile, Roles: map[string]*v1alpha1.AccessRoleSpec{}, Now: w.now()}
	for i := range roles.Items {
		s.Roles[roles.Items[i].Name] = &roles.Items[i].Spec
	}
	var members []fleet.Member
	for i := range clusters.Items {
		if c := &clusters.Items[i]; c.DeletionTimestamp.IsZero() {
			members = append(members, fleet.Member{
				Name: c.Name, Labels: c.Labels, Accepted: c.Spec.HubAcceptsClient, Delivery: fleet.ManifestWork, Paths: subject.Gateway,
			})
		}
	}
	s.Fleet = fleet.New(members)
	for i := range grants.Items {
		if g := &grants.Items[i]; g.DeletionTimestamp.IsZero() {
			s.Grants = append(s.Grants, compile.Grant{Namespace: g.Namespace, Name: g.Name, Spec: &g.Spec})
		}
	}
	return compile.Grants(s)
}

// policy is what the guardrails and exceptions on the hub make together.
func (w *world) policy() *guardrail.Set {
	w.Helper()
	var rails v1alpha1.GuardrailList
	var exceptions v1alpha1.GuardrailExceptionList
	w.must(w.hub.List(w.ctx, &rails))
	w.must(w.hub.List(w.ctx, &exceptions))
	var asked []*guardrail.Guardrail
	for i := range rails.Items {
		g, errs := policy.Compile(rails.Items[i].Name, &rails.Items[i].Spec, policy.Options{})
		w.must(errs.ToAggregate())
		asked = append(asked, g)
	}
	var excused []guardrail.Exception
	for i := range exceptions.Items {
		excused = append(excused, snapshot.ExceptionOf(&exceptions.Items[i]))
	}
	return guardrail.NewSet(asked, excused, guardrail.Options{})
}

// inexact says how hub, works and members differ from exactly what the surviving
// grants compile to; "" where they do not. Members are those with an agent.
func (w *world) inexact(members ...string) string {
	w.Helper()
	out := w.desired()
	if d := differ("hub", managed(w, w.hub, compile.HubPrefix), out.Hub); d != "" {
		return d
	}
	works := map[string]*workv1.ManifestWork{}
	var list workv1.ManifestWorkList
	w.must(w.hub.List(w.ctx, &list, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
	for i := range list.Items {
		works[list.Items[i].Namespace+"/"+list.Items[i].Name] = &list.Items[i]
	}
	on := map[string][]*compile.Object{}
	for _, m := range out.Members {
		for _, work := range m.Works {
			key := m.Name + "/" + work.Name
			have, ok := works[key]
			if !ok {
				return "there is no work " + key
			}
			delete(works, key)
			carried := map[string]map[string]any{}
			for _, manifest := range have.Spec.Workload.Manifests {
				var o map[string]any
				w.must(json.Unmarshal(manifest.Raw, &o))
				carried[identity(&unstructured.Unstructured{Object: o})] = o
			}
			if d := differ("work "+key, carried, work.Objects); d != "" {
				return d
			}
			on[m.Name] = append(on[m.Name], work.Objects...)
		}
	}
	for key := range works {
		return "there is an orphaned work " + key
	}
	for _, name := range members {
		if d := differ("member "+name, managed(w, w.member(name), ""), on[name]); d != "" {
			return d
		}
	}
	return ""
}

func identity(o *unstructured.Unstructured) string {
	return o.GetKind() + " " + o.GetNamespace() + "/" + o.GetName()
}

// managed are the RBAC objects that Sallyport made on a cluster.
func managed(w *world, c client.Client, prefix string) map[string]map[string]any {
	w.Helper()
	out := map[string]map[string]any{}
	for _, kind := range []string{"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind(kind + "List"))
		w.must(c.List(w.ctx, list, client.MatchingLabels{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue}))
		for i := range list.Items {
			if o := &list.Items[i]; strings.HasPrefix(o.GetName(), prefix) {
				out[identity(o)] = o.Object
			}
		}
	}
	return out
}

// differ compares what objects mean: rules, subjects, role and labels.
func differ(where string, have map[string]map[string]any, want []*compile.Object) string {
	wanted := map[string]bool{}
	for _, o := range want {
		var object map[string]any
		if err := json.Unmarshal(o.JSON, &object); err != nil {
			return err.Error()
		}
		u := &unstructured.Unstructured{Object: object}
		id := identity(u)
		wanted[id] = true
		live, ok := have[id]
		if !ok {
			return fmt.Sprintf("%s lacks %s", where, id)
		}
		for _, field := range []string{"rules", "subjects", "roleRef", "aggregationRule"} {
			if !reflect.DeepEqual(live[field], object[field]) {
				return fmt.Sprintf("%s: %s: %s is %v, not %v", where, id, field, live[field], object[field])
			}
		}
		if got := (&unstructured.Unstructured{Object: live}).GetLabels(); !maps.Equal(got, u.GetLabels()) {
			return fmt.Sprintf("%s: %s: labels are %v, not %v", where, id, got, u.GetLabels())
		}
	}
	var orphans []string
	for id := range have {
		if !wanted[id] {
			orphans = append(orphans, id)
		}
	}
	if len(orphans) > 0 {
		slices.Sort(orphans)
		return fmt.Sprintf("%s has orphans: %s", where, strings.Join(orphans, ", "))
	}
	return ""
}

// settled waits until everything is exact and every grant says that it is done.
func (w *world) settled(members ...string) {
	w.Helper()
	w.eventually("hub and members are exactly what the grants say", func() string { return w.inexact(members...) })
}

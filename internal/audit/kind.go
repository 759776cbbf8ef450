package audit

import (
	"fmt"

	orv1 "github.com/openreports/reports-api/apis/openreports.io/v1alpha1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
	"github.com/sallyport-dev/sallyport/internal/inventory/served"
)

// The kinds of reports. The last two are what openreports.io was before, of which
// it differs in that only results have a source.
var (
	ReportKind              = schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "Report"}
	ClusterReportKind       = schema.GroupVersionKind{Group: "openreports.io", Version: "v1alpha1", Kind: "ClusterReport"}
	PolicyReportKind        = schema.GroupVersionKind{Group: "wgpolicyk8s.io", Version: "v1alpha2", Kind: "PolicyReport"}
	ClusterPolicyReportKind = schema.GroupVersionKind{Group: "wgpolicyk8s.io", Version: "v1alpha2", Kind: "ClusterPolicyReport"}
)

// Kinds are what a served.Kinds has to follow for an Auditor, whatever it writes:
// what was written before may have to be deleted. Only metadata of Sallyport's own
// reports is held.
func Kinds() []served.Kind {
	ours := labels.SelectorFromSet(labels.Set{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})
	kinds := []served.Kind{
		{GVK: ReportKind, Resource: "reports", Namespaced: true},
		{GVK: ClusterReportKind, Resource: "clusterreports"},
		{GVK: PolicyReportKind, Resource: "policyreports", Namespaced: true},
		{GVK: ClusterPolicyReportKind, Resource: "clusterpolicyreports"},
	}
	for i := range kinds {
		kinds[i].Labels = ours
		kinds[i].Object = &metav1.PartialObjectMetadata{}
	}
	return kinds
}

// content is all that Sallyport writes of a report, in any of the kinds: what
// openreports.io's Report has besides metadata.
type content = orv1.Report

// newObject for a report, with nothing in it.
func newObject(kind schema.GroupVersionKind, r *Report) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(kind)
	u.SetNamespace(r.Namespace)
	u.SetName(r.Name)
	u.SetLabels(map[string]string{v1alpha1.ManagedByLabel: v1alpha1.ManagedByValue})
	return u
}

// contentOf a report as the kind spells it.
func contentOf(kind schema.GroupVersionKind, r *Report, results []orv1.ReportResult) *content {
	c := &content{Summary: r.Summary, Results: results}
	if kind.Group == PolicyReportKind.Group {
		return c
	}
	c.Source = source
	if r.Namespace != "" {
		c.Configuration = &orv1.ReportConfiguration{Limits: orv1.Limits{
			MaxResults: MaxResults, StatusFilter: []orv1.StatusFilter{"fail", "warn", "error", "skip"},
		}}
	}
	return c
}

// read what stands. What cannot be read is nothing, and will be overwritten.
func read(o *unstructured.Unstructured) *content {
	c := &content{}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, c); err != nil {
		return &content{}
	}
	return c
}

func same(a, b *content) bool {
	return a.Source == b.Source && a.Summary == b.Summary && a.Scope == nil && b.Scope == nil && a.ScopeSelector == nil && b.ScopeSelector == nil &&
		equality.Semantic.DeepEqual(a.Configuration, b.Configuration) && equality.Semantic.DeepEqual(a.Results, b.Results)
}

// fields of a report that Sallyport writes.
var fields = []string{"source", "configuration", "summary", "results"}

// write the content into an object, and leave the rest of it.
func write(c *content, into *unstructured.Unstructured) error {
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(c)
	if err != nil {
		return fmt.Errorf("cannot write report %q: %w", into.GetName(), err)
	}
	if c.Source == "" {
		delete(m, "source")
	}
	for _, f := range fields {
		if v, ok := m[f]; ok {
			into.Object[f] = v
		} else {
			delete(into.Object, f)
		}
	}
	delete(into.Object, "scope")
	delete(into.Object, "scopeSelector")
	return nil
}

package clusters

import (
	"context"
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sallyport-dev/sallyport/api/proxy/v1alpha1"
)

var columns = []metav1.TableColumnDefinition{
	{Name: "Name", Type: "string", Format: "name", Description: "Name of the cluster"},
	{Name: "Available", Type: "string", Description: "What the inventory says of the cluster's health"},
	{Name: "Route", Type: "string", Description: "Whether requests can be sent to the cluster"},
	{Name: "Grants", Type: "string", Description: "The grants that open it to you"},
	{Name: "Until", Type: "string", Description: "When the last of these grants ends"},
	{Name: "Delivery", Type: "string", Priority: 1, Description: "How the cluster gets its RBAC"},
	{Name: "Message", Type: "string", Priority: 1, Description: "Why requests cannot be sent"},
}

// ConvertToTable for kubectl.
func (s *Storage) ConvertToTable(_ context.Context, o runtime.Object, options runtime.Object) (*metav1.Table, error) {
	t := &metav1.Table{}
	switch o := o.(type) {
	case *v1alpha1.Cluster:
		t.ResourceVersion = o.ResourceVersion
		t.Rows = append(t.Rows, row(o))
	case *v1alpha1.ClusterList:
		t.ResourceVersion, t.Continue, t.RemainingItemCount = o.ResourceVersion, o.Continue, o.RemainingItemCount
		for i := range o.Items {
			t.Rows = append(t.Rows, row(&o.Items[i]))
		}
	default:
		if _, err := meta.Accessor(o); err != nil {
			return nil, fmt.Errorf("cannot make a table of %T", o)
		}
		t.Rows = append(t.Rows, metav1.TableRow{Object: runtime.RawExtension{Object: o}})
	}
	if to, ok := options.(*metav1.TableOptions); !ok || !to.NoHeaders {
		t.ColumnDefinitions = columns
	}
	return t, nil
}

func row(c *v1alpha1.Cluster) metav1.TableRow {
	available := map[v1alpha1.Availability]string{v1alpha1.Available: "True", v1alpha1.Unavailable: "False"}[c.Status.Availability]
	if available == "" {
		available = string(v1alpha1.AvailabilityUnknown)
	}
	return metav1.TableRow{
		Cells:  []any{c.Name, available, string(c.Status.Route), few(c.Status.Grants), until(c.Status.Grants), c.Status.Delivery, c.Status.RouteMessage},
		Object: runtime.RawExtension{Object: c},
	}
}

// few of the grants, and how many more there are.
func few(grants []v1alpha1.ClusterGrant) string {
	const most = 3
	var names []string
	for _, g := range grants[:min(most, len(grants))] {
		names = append(names, g.Namespace+"/"+g.Name)
	}
	text := strings.Join(names, ",")
	if more := len(grants) - most; more > 0 {
		text += fmt.Sprintf(" +%d", more)
	}
	return text
}

// until when the last of the grants ends.
func until(grants []v1alpha1.ClusterGrant) string {
	var last time.Time
	for _, g := range grants {
		if g.NotAfter == nil {
			return "no end"
		}
		if g.NotAfter.After(last) {
			last = g.NotAfter.Time
		}
	}
	return last.UTC().Format(time.RFC3339)
}

package source

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestTakeOver(t *testing.T) {
	const gv = "access.sallyport.dev/v1alpha1"
	field := func(manager string, op metav1.ManagedFieldsOperationType, subresource, version, set string) metav1.ManagedFieldsEntry {
		return metav1.ManagedFieldsEntry{Manager: manager, Operation: op, Subresource: subresource, APIVersion: version, FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(set)}
	}
	ours := field(FieldManager, metav1.ManagedFieldsOperationApply, "", gv, `{"f:spec":{"f:reason":{}}}`)
	for name, tc := range map[string]struct {
		reason  string
		in      []metav1.ManagedFieldsEntry
		want    []metav1.ManagedFieldsEntry
		changed bool
	}{
		"OnlyOurs": {
			reason: "Nothing to take.",
			in:     []metav1.ManagedFieldsEntry{ours},
			want:   []metav1.ManagedFieldsEntry{ours},
		},
		"Kubectl": {
			reason:  "A subject added by hand goes with the next apply.",
			in:      []metav1.ManagedFieldsEntry{field("kubectl-edit", "Update", "", gv, `{"f:spec":{"f:subjects":{"v:{}":{}}}}`), ours},
			want:    []metav1.ManagedFieldsEntry{field(FieldManager, "Apply", "", gv, `{"f:spec":{"f:reason":{},"f:subjects":{"v:{}":{}}}}`)},
			changed: true,
		},
		"Finalizer": {
			reason: "The controller keeps its finalizer: it holds an object until access is revoked.",
			in:     []metav1.ManagedFieldsEntry{ours, field("sallyport", "Update", "", gv, `{"f:metadata":{"f:finalizers":{}}}`)},
			want:   []metav1.ManagedFieldsEntry{ours, field("sallyport", "Update", "", gv, `{"f:metadata":{"f:finalizers":{}}}`)},
		},
		"Both": {
			reason: "Metadata and content of one manager part.",
			in:     []metav1.ManagedFieldsEntry{field("x", "Apply", "", gv, `{"f:metadata":{"f:labels":{}},"f:spec":{"f:suspend":{}}}`)},
			want: []metav1.ManagedFieldsEntry{
				field(FieldManager, "Apply", "", gv, `{"f:spec":{"f:suspend":{}}}`),
				field("x", "Apply", "", gv, `{"f:metadata":{"f:labels":{}}}`),
			},
			changed: true,
		},
		"Status": {
			reason: "A status is not Git's.",
			in:     []metav1.ManagedFieldsEntry{field("sallyport", "Update", "status", gv, `{"f:status":{}}`)},
			want:   []metav1.ManagedFieldsEntry{field("sallyport", "Update", "status", gv, `{"f:status":{}}`)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, changed, err := takeOver(tc.in, gv)
			if err != nil || changed != tc.changed {
				t.Fatalf("%s\ngot changed %t and error %v", tc.reason, changed, err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("%s\n-want +got\n%s", tc.reason, diff)
			}
		})
	}
}

package source

import (
	"encoding/json"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// FieldManager is the name under which the sync applies.
const FieldManager = "sallyport-sync"

// takeOver returns the managed fields of an object with everything that others
// hold of its content given to the sync, and whether that changes anything.
//
// Server-side apply merges what several managers say: a subject that somebody
// added with kubectl to a grant would stay, and Git would not tell of it. Once the
// sync holds it, the next apply removes it. Metadata stays with whom it is:
// controllers keep finalizers there, on which revocation depends.
func takeOver(fields []metav1.ManagedFieldsEntry, apiVersion string) ([]metav1.ManagedFieldsEntry, bool, error) {
	var (
		kept  []metav1.ManagedFieldsEntry
		taken map[string]any
		own   = metav1.ManagedFieldsEntry{
			Manager:    FieldManager,
			Operation:  metav1.ManagedFieldsOperationApply,
			APIVersion: apiVersion,
			FieldsType: "FieldsV1",
		}
		ownSet = map[string]any{}
	)
	for _, entry := range fields {
		if entry.Subresource != "" || entry.APIVersion != apiVersion || entry.FieldsV1 == nil {
			kept = append(kept, entry)
			continue
		}
		var set map[string]any
		if err := json.Unmarshal(entry.FieldsV1.GetRawBytes(), &set); err != nil {
			return nil, false, fmt.Errorf("cannot read managed fields of %q: %w", entry.Manager, err)
		}
		if entry.Manager == FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply {
			own, ownSet = entry, set
			continue
		}
		content, rest := splitContent(set)
		taken = mergeFields(taken, content)
		if len(rest) == 0 {
			continue
		}
		raw, err := json.Marshal(rest)
		if err != nil {
			return nil, false, err
		}
		entry.FieldsV1 = metav1.NewFieldsV1(string(raw))
		kept = append(kept, entry)
	}
	if len(taken) == 0 {
		return fields, false, nil
	}
	raw, err := json.Marshal(mergeFields(ownSet, taken))
	if err != nil {
		return nil, false, err
	}
	own.FieldsV1 = metav1.NewFieldsV1(string(raw))
	return slices.Insert(kept, 0, own), true, nil
}

// splitContent divides a set of fields into an object's content and the rest.
func splitContent(set map[string]any) (content, rest map[string]any) {
	content, rest = map[string]any{}, map[string]any{}
	for key, value := range set {
		if key == "f:metadata" || key == "f:status" {
			rest[key] = value
		} else {
			content[key] = value
		}
	}
	return content, rest
}

// mergeFields is the union of two sets of fields, in which each key is a step of
// a path and an empty object ends one.
func mergeFields(a, b map[string]any) map[string]any {
	union := map[string]any{}
	for _, set := range []map[string]any{a, b} {
		for key, value := range set {
			children, _ := value.(map[string]any)
			before, _ := union[key].(map[string]any)
			union[key] = mergeFields(before, children)
		}
	}
	return union
}

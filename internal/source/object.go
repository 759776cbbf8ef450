package source

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"k8s.io/apimachinery/pkg/api/validate/content"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kjson "sigs.k8s.io/json"
)

// Ref names an object across the versions of its kind.
type Ref struct {
	Group     string `json:"group,omitempty"`
	Kind      string `json:"kind"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name"`
}

// String is Kind namespace/name.
func (r Ref) String() string {
	if r.Namespace == "" {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

func (r Ref) rank() int { return rank(schema.GroupKind{Group: r.Group, Kind: r.Kind}) }

// compareRefs sorts in the order of applying.
func compareRefs(a, b Ref) int {
	return cmp.Or(
		cmp.Compare(a.rank(), b.rank()),
		cmp.Compare(a.Namespace, b.Namespace),
		cmp.Compare(a.Name, b.Name),
		cmp.Compare(a.Kind, b.Kind),
		cmp.Compare(a.Group, b.Group),
	)
}

// Object is one object of a commit: an allowed kind with a name, a namespace if
// it has one, labels, annotations and what the kind itself holds.
type Object struct {
	*unstructured.Unstructured
	// From is the place in the repository, as file:line or file.
	From string
}

// Ref returns the name of the object.
func (o Object) Ref() Ref {
	gvk := o.GroupVersionKind()
	return Ref{Group: gvk.Group, Kind: gvk.Kind, Namespace: o.GetNamespace(), Name: o.GetName()}
}

func (o Object) isNamespace() bool { return o.GroupVersionKind() == namespaceKind }

// hash is that of the content as it is committed, half a SHA-256 long. JSON sorts
// the keys of objects.
func (o Object) hash() (string, error) {
	data, err := json.Marshal(o.Object)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:16]), nil
}

// admit makes an Object of what was read, or says why that may not be applied.
func admit(content map[string]any, from string) (Object, error) {
	u := &unstructured.Unstructured{Object: content}
	none := Object{}
	if err := checkKind(u); err != nil {
		return none, fmt.Errorf("%s: %w", from, err)
	}
	k := kinds[rank(u.GroupVersionKind().GroupKind())]
	what := fmt.Sprintf("%s: %s %q", from, u.GetKind(), nameOf(u))
	if err := checkMetadata(u, k.namespaced); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	if err := dropStatus(u); err != nil {
		return none, fmt.Errorf("%s: %w", what, err)
	}
	if k.typed != nil {
		data, err := json.Marshal(content)
		if err != nil {
			return none, fmt.Errorf("%s: %w", what, err)
		}
		strict, err := kjson.UnmarshalStrict(data, k.typed())
		if err := errors.Join(append(strict, err)...); err != nil {
			return none, fmt.Errorf("%s: %w", what, err)
		}
	}
	return Object{Unstructured: u, From: from}, nil
}

func checkKind(u *unstructured.Unstructured) error {
	if u.GetAPIVersion() == "" || u.GetKind() == "" {
		return errors.New("no Kubernetes object: apiVersion or kind is missing")
	}
	if u.GetAPIVersion() == "kustomize.config.k8s.io/v1beta1" {
		return errors.New("a kustomization below a plain folder is not built: put one at the path that is synced, and refer to this one")
	}
	for _, k := range kinds {
		if k.GroupVersionKind == u.GroupVersionKind() {
			return nil
		}
	}
	return fmt.Errorf("kind %q of %q may not be applied, only %s", u.GetKind(), u.GetAPIVersion(), kindNames())
}

// checkMetadata leaves a commit the name, the namespace, labels and annotations.
// All else is the cluster's: a finalizer could hold up a revocation, an owner
// reference could have the object deleted.
func checkMetadata(u *unstructured.Unstructured, namespaced bool) error {
	metadata, ok := u.Object["metadata"].(map[string]any)
	if !ok {
		return errors.New("metadata is missing")
	}
	for key, value := range metadata {
		switch {
		case value == nil: // creationTimestamp: null, as many tools write it
			delete(metadata, key)
		case key == "name", key == "namespace":
			if _, ok := value.(string); !ok {
				return fmt.Errorf("metadata.%s must be a string", key)
			}
		case key == "labels", key == "annotations":
			if _, _, err := unstructured.NestedStringMap(metadata, key); err != nil {
				return fmt.Errorf("metadata.%s must be strings", key)
			}
		default:
			return fmt.Errorf("metadata.%s is not for a commit to set", key)
		}
	}
	if u.GetName() == "" {
		return errors.New("metadata.name is missing")
	}
	// They become a step of a URL.
	for _, name := range []string{u.GetName(), u.GetNamespace()} {
		if problems := content.IsPathSegmentName(name); len(problems) > 0 {
			return fmt.Errorf("name %q %s", name, problems[0])
		}
	}
	switch {
	case !namespaced:
		// Kustomize takes every kind that it does not know for a namespaced one.
		unstructured.RemoveNestedField(u.Object, "metadata", "namespace")
	case u.GetNamespace() == "":
		return errors.New("metadata.namespace is missing")
	}
	return nil
}

func dropStatus(u *unstructured.Unstructured) error {
	if status, ok := u.Object["status"].(map[string]any); u.Object["status"] != nil && (!ok || len(status) > 0) {
		return errors.New("status is not for a commit to set")
	}
	delete(u.Object, "status")
	return nil
}

// nameOf is namespace/name as far as they can be read.
func nameOf(u *unstructured.Unstructured) string {
	metadata, _ := u.Object["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	if namespace, _ := metadata["namespace"].(string); namespace != "" {
		return namespace + "/" + name
	}
	return name
}

package compile

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/sallyport-dev/sallyport/api/v1alpha1"
)

// Object is one RBAC object. It is immutable, and many members may share it.
type Object struct {
	Kind, Namespace, Name string
	// Object is a pointer to the typed object of rbac.authorization.k8s.io/v1.
	Object runtime.Object
	// JSON is the object as it is delivered.
	JSON []byte
	// Grants behind the object, sorted keys; and their sources, sorted.
	Grants, Sources []string
}

// ID tells an object from others on its cluster: kind, namespace and name.
func (o *Object) ID() string { return o.Kind + " " + o.Namespace + "/" + o.Name }

// compareObjects puts what is referred to before what refers: ClusterRoles and
// Roles before bindings, each by namespace and name.
func compareObjects(a, b *Object) int {
	return strings.Compare(a.order(), b.order())
}

func (o *Object) order() string {
	rank := map[string]string{"ClusterRole": "0", "Role": "1", "ClusterRoleBinding": "2", "RoleBinding": "3"}[o.Kind]
	return rank + "\x00" + o.Namespace + "\x00" + o.Name
}

// namePrefix begins the name of every RBAC object that Sallyport makes.
const namePrefix = "sallyport:"

// HubPrefix begins the name of what stands on the hub by the hub's own right, as
// opposed to what is delivered to members, of which the hub may be one.
const HubPrefix = namePrefix + "hub:"

// objectName is sallyport:KIND:NAME where the name is short and plain enough to
// be read, else sallyport:KIND:~DIGEST. The tilde keeps the two apart.
func objectName(kind, name string) string {
	plain := len(name) <= 128 && !strings.ContainsFunc(name, func(r rune) bool {
		ok := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_.@:", r)
		return !ok
	})
	if plain {
		return namePrefix + kind + ":" + name
	}
	return namePrefix + kind + ":~" + longDigest(name)
}

// owners are the grants behind an object, in the form in which it carries them.
type owners struct {
	keys, sources []string
	// maxLabels, if not 0, is another bound than MaxGrantLabels.
	maxLabels int
}

func ownersOf(contributors []*expanded) owners {
	var o owners
	for _, e := range contributors {
		// Contributors come sorted by key, repeated where several entries of one
		// grant give the same.
		if n := len(o.keys); n > 0 && o.keys[n-1] == e.key {
			continue
		}
		o.keys = append(o.keys, e.key)
		if e.source != "" {
			o.sources = append(o.sources, e.source)
		}
	}
	slices.Sort(o.sources)
	o.sources = slices.Compact(o.sources)
	return o
}

// GrantLabel is the label by which objects name the grant with that key.
func GrantLabel(key string) string { return v1alpha1.GrantLabelPrefix + Digest(key) }

// MaxGrantLabels bounds the labels on one object. An object with more grants
// behind it carries the label MoreGrantsLabel instead of the rest.
const MaxGrantLabels = 512

// MetaFor are the labels and annotations on what stands for the grants: keys are
// namespace/name, sorted; sources likewise.
func MetaFor(keys, sources []string) (labels, annotations map[string]string) {
	return metaFor(keys, sources, MaxGrantLabels)
}

func metaFor(keys, sources []string, maxLabels int) (labels, annotations map[string]string) {
	labels = make(map[string]string, len(keys)+2)
	labels[v1alpha1.ManagedByLabel] = v1alpha1.ManagedByValue
	for i, k := range keys {
		if i == maxLabels {
			labels[v1alpha1.MoreGrantsLabel] = "true"
			break
		}
		namespace, _, _ := strings.Cut(k, "/")
		labels[GrantLabel(k)] = namespace
	}
	annotations = map[string]string{v1alpha1.GrantsAnnotation: bounded(keys)}
	if len(sources) > 0 {
		annotations[v1alpha1.SourcesAnnotation] = bounded(sources)
	}
	return labels, annotations
}

// maxAnnotation bounds what bounded returns, as JSON.
const maxAnnotation = 4096

// bounded joins with commas, up to a length that suits an annotation.
func bounded(items []string) string {
	var b strings.Builder
	size := 0
	for i, s := range items {
		if size += quotedLen(s) + 1; size > maxAnnotation {
			b.WriteString(",…")
			break
		}
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(s)
	}
	return b.String()
}

// weight bounds the bytes of the labels and annotations as JSON.
func (o owners) weight(maxLabels int) int {
	size := 192
	for i, k := range o.keys {
		if i == maxLabels {
			break
		}
		namespace := strings.IndexByte(k, '/')
		size += len(v1alpha1.GrantLabelPrefix) + 32 + namespace
	}
	for _, list := range [][]string{o.keys, o.sources} {
		annotation := 0
		for _, s := range list {
			if annotation += quotedLen(s) + 1; annotation >= maxAnnotation {
				annotation = maxAnnotation
				break
			}
		}
		size += annotation
	}
	return size
}

func (o owners) meta(namespace, name string) metav1.ObjectMeta {
	labels, annotations := metaFor(o.keys, o.sources, cmp.Or(o.maxLabels, MaxGrantLabels))
	return metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels, Annotations: annotations}
}

func clusterRole(name string, rules []rbacv1.PolicyRule, by owners) *Object {
	return seal(by, "ClusterRole", &rbacv1.ClusterRole{ObjectMeta: by.meta("", name), Rules: rules})
}

// roleIn is a Role in the namespace, or a ClusterRole where there is none.
func roleIn(namespace, name string, rules []rbacv1.PolicyRule, by owners) *Object {
	if namespace == "" {
		return clusterRole(name, rules, by)
	}
	return seal(by, "Role", &rbacv1.Role{ObjectMeta: by.meta(namespace, name), Rules: rules})
}

// bindingIn is a RoleBinding in the namespace, or a ClusterRoleBinding where
// there is none.
func bindingIn(namespace, name string, ref rbacv1.RoleRef, subjects []rbacv1.Subject, by owners) *Object {
	if namespace == "" {
		return seal(by, "ClusterRoleBinding", &rbacv1.ClusterRoleBinding{ObjectMeta: by.meta("", name), RoleRef: ref, Subjects: subjects})
	}
	return seal(by, "RoleBinding", &rbacv1.RoleBinding{ObjectMeta: by.meta(namespace, name), RoleRef: ref, Subjects: subjects})
}

func seal(by owners, kind string, obj interface {
	runtime.Object
	metav1.Object
}) *Object {
	obj.GetObjectKind().SetGroupVersionKind(rbacv1.SchemeGroupVersion.WithKind(kind))
	raw, err := json.Marshal(obj)
	if err != nil {
		// Strings, slices and maps of them: there is nothing that can fail.
		panic(fmt.Sprintf("cannot marshal %s %q: %v", kind, obj.GetName(), err))
	}
	return &Object{
		Kind: kind, Namespace: obj.GetNamespace(), Name: obj.GetName(), Object: obj, JSON: raw,
		Grants: by.keys, Sources: by.sources,
	}
}

// stableHash is the same in every process and release: names of works depend on
// it.
func stableHash(s string) uint64 {
	sum := sha256.Sum256([]byte(s))
	return binary.BigEndian.Uint64(sum[:8])
}
